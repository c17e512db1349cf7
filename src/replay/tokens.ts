import { randomBytes } from "node:crypto";

/**
 * Texts that stand for numbers which only a script will know when it runs: a variable's name in brackets that no log has in it,
 * since they are made when the script is written, and are not in it. `#` in front of the name: the number is wanted as the
 * hex of a little-endian u32.
 */
const SECRET = randomBytes(16).toString("hex");
const OPEN = `\ue000${SECRET}`;
const CLOSE = "\ue001";

const TOKEN = new RegExp(`^${OPEN}#?\\w+${CLOSE}$`);
/** Without its quotes, where the whole of a JSON string is one: it is a number. */
const IN_TEXT = new RegExp(`"${OPEN}(\\w+)${CLOSE}"|${OPEN}(#?)(\\w+)${CLOSE}`, "g");

/** Throws where the variable's name is none that a shell has. */
export function token(variable: string): string {
  if (!/^[a-z]\w*$/.test(variable))
    throw new Error(`${JSON.stringify(variable.slice(0, 40))} is no name of a variable`);
  return `${OPEN}${variable}${CLOSE}`;
}

/** The same number in hex. */
export function asHex(text: string): string {
  return text.replace(OPEN, `${OPEN}#`);
}

export function isToken(text: unknown): text is string {
  return typeof text === "string" && TOKEN.test(text);
}

/** The variable that a token stands for. */
export function variableOf(text: string): string {
  return text.slice(OPEN.length, -CLOSE.length);
}

/** A text's parts: what stands as it is, and variables. */
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
