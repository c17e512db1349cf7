/** DATA := { [hex] BYTES }, and the words of a command on an element: keys, values and flags. */

import { Failure } from "./failure.ts";
import { readNumber, type Words } from "./words.ts";

const BYTE_MAX = 255;

/**
 * Reads as many bytes as the map's key or value has, a word each: decimal, 0x and hex digits, or 0 and octal digits; after
 * "hex", hex digits. Unlike bpftool, a number above 255 is refused, and not cut.
 */
export function readData(words: Words, what: "key" | "value", bytes: number): string {
  const base = words.takes("hex") ? 16 : 0;
  let hex = "";
  for (let at = 0; at < bytes; at++) {
    const word = words.first;
    if (word === undefined) throw new Failure(`${what} expected ${bytes} bytes got ${at}`);
    hex += byteOf(words.next(`${what} byte ${at}`), base);
  }
  return hex;
}

/** As readData, of a key whose size is not known: all words to the end. */
export function readAllData(words: Words): string {
  const base = words.takes("hex") ? 16 : 0;
  let hex = "";
  while (words.first !== undefined) hex += byteOf(words.next("a byte"), base);
  return hex;
}

function byteOf(word: string, base: 0 | 16): string {
  const byte = readNumber(word, BYTE_MAX, base);
  if (byte === null) throw new Failure(`error parsing byte: ${word}`);
  return byte.toString(16).padStart(2, "0");
}

/** enum: BPF_ANY, BPF_NOEXIST, BPF_EXIST. */
const UPDATE_FLAGS = ["any", "noexist", "exist"] as const;

export interface Wanted {
  /** The key's bytes; null: the command takes no key. Of a map without keys 0 means the word "key" alone. */
  readonly key: number | null;
  /** Reads the value's words; null: the command takes no value. */
  readonly value: ((words: Words) => string | Promise<string>) | null;
  /** The map has no values: the refusal says so. */
  readonly hasValues: boolean;
  readonly flags: boolean;
}

/** Hex, or what `Wanted.value` reads; null: the command has none. */
export interface ElementWords {
  readonly key: string | null;
  readonly value: string | null;
  readonly flags: number;
}

/** Reads `[key DATA] [value VALUE] [any | noexist | exist]`, in any order; each part that is wanted must be there. */
export async function readElement(words: Words, wanted: Wanted): Promise<ElementWords> {
  const keyBytes = wanted.key;
  let key: string | null = null;
  let value: string | null = null;
  let flags: number | null = null;
  const lacksKey = (): boolean => keyBytes !== null && key === null;
  const lacksValue = (): boolean => wanted.value !== null && value === null;
  while (words.first !== undefined) {
    if (words.takes("key")) {
      if (keyBytes === null) throw new Failure("unnecessary key");
      if (key !== null) throw new Failure(keyBytes > 0 ? "duplicate key" : "unnecessary key");
      key = readData(words, "key", keyBytes);
    } else if (words.takes("value")) {
      if (!lacksValue() || wanted.value === null)
        throw new Failure(wanted.hasValues ? "duplicate value" : "unnecessary value");
      value = await wanted.value(words);
    } else flags = readFlags(words, wanted.flags && flags === null);
  }
  if (lacksKey() || lacksValue()) throw new Failure(`did not find ${lacksKey() ? "key" : "value"}`);
  return { key, value, flags: flags ?? 0 };
}

function readFlags(words: Words, areWanted: boolean): number {
  const word = words.first;
  const flags = UPDATE_FLAGS.findIndex((flag) => words.takes(flag));
  if (flags === -1) throw new Failure(`expected key or value, got: ${word}`);
  if (!areWanted) throw new Failure(`flags specified multiple times: ${word}`);
  return flags;
}
