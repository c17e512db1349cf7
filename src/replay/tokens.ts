/**
 * Tokens: texts that stand for ids which a script learns only when it runs. A token is a shell variable's name between
 * a random secret and a closing mark, so no recorded text can contain one. "#" before the name: the script inserts the
 * id as the hex digits of a little-endian u32.
 */

import { randomBytes } from "node:crypto";

const SECRET = randomBytes(16).toString("hex");
const OPEN = `\ue000${SECRET}`;
const CLOSE = "\ue001";

const TOKEN = new RegExp(`^${OPEN}#?\\w+${CLOSE}$`);
/** A token that is a whole JSON string loses its quotes, because the id is a number. */
const IN_TEXT = new RegExp(`"${OPEN}(\\w+)${CLOSE}"|${OPEN}(#?)(\\w+)${CLOSE}`, "g");

/** Makes the token of a variable. Throws an Error if the name is not a shell variable's. */
export function token(variable: string): string {
  if (!/^[a-z]\w*$/.test(variable))
    throw new Error(`${JSON.stringify(variable.slice(0, 40))} is not a variable's name`);
  return `${OPEN}${variable}${CLOSE}`;
}

/** The token of the same id in hex. */
export function asHex(text: string): string {
  return text.replace(OPEN, `${OPEN}#`);
}

export function isToken(text: unknown): text is string {
  return typeof text === "string" && TOKEN.test(text);
}

/** The variable of a token. */
export function variableOf(text: string): string {
  return text.slice(OPEN.length, -CLOSE.length);
}

/** A part of a text: a literal, or a variable. */
export type Part = string | { readonly variable: string; readonly hex: boolean };

export function parts(text: string): Part[] {
  const found: Part[] = [];
  let end = 0;
  for (const match of text.matchAll(IN_TEXT)) {
    found.push(text.slice(end, match.index), { variable: match[1] ?? (match[3] as string), hex: match[2] === "#" });
    end = match.index + match[0].length;
  }
  return [...found, text.slice(end)].filter((part) => part !== "");
}
