import { type CellKey, readU32Key } from "../maps/cells.ts";

export const [ELEMENT, USE, GARBAGE] = ["e", "u", "g"] as const;

const TABLES: Readonly<Record<string, string>> = {
  c: "a counter",
  s: "a session",
  f: "a descriptor",
  m: "a map",
  n: "a map's number of elements",
  r: "a map's holds",
  k: "a map's name",
  p: "a pin",
  d: "a directory",
  e: "an element",
  u: "an element's use",
  h: "the interfaces",
};

const SHOWN_BYTES = 32;

/** Names a cell for a finding: "an element of map 1 (cell 65000000010100…)". */
export function cellText(key: CellKey): string {
  const table = TABLES[key[0] as string] ?? "an object";
  const of = (key[0] === ELEMENT || key[0] === USE) && key.length >= 5 ? ` of map ${readU32Key(key, 1)}` : "";
  return `${table}${of} (cell ${shown(Buffer.from(key, "latin1"))})`;
}

export function shown(bytes: Buffer): string {
  const hex = bytes.toString("hex", 0, SHOWN_BYTES);
  return bytes.length > SHOWN_BYTES ? `${hex}\u2026` : hex;
}
