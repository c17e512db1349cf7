/**
 * Texts that stand for numbers which only a script will know when it runs: a variable's name between two characters for
 * private use. `#` in front of the name: the number is wanted as the hex of a little-endian u32.
 */
const OPEN = "\ue000";
const CLOSE = "\ue001";

const TOKEN = /^\ue000#?\w+\ue001$/;
/** Without its quotes, where the whole of a JSON string is one: it is a number. */
const IN_TEXT = /"\ue000(\w+)\ue001"|\ue000(#?)(\w+)\ue001/g;

export function token(variable: string): string {
  return `${OPEN}${variable}${CLOSE}`;
}

/** The same number in hex. */
export function asHex(text: string): string {
  return text.replace(OPEN, `${OPEN}#`);
}

export function isToken(text: unknown): text is string {
  return typeof text === "string" && TOKEN.test(text);
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
