/** Reads numbers, bytes, pointers and strings as the API spells them, and shows wrong values in errors. */

import { BPF_ATTACH_TYPE, BPF_ELEM, BPF_F, BPF_MAP_TYPE, BPF_PROG_TYPE } from "../abi/bpf.ts";
import { InvalidInput } from "./invalid.ts";
import { Large, LargeText } from "./large.ts";

/** Constants of <linux/bpf.h> whose names are allowed in place of a number. */
const CONSTANTS = new Map<string, number | bigint>(
  Object.entries({ ...BPF_MAP_TYPE, ...BPF_F, ...BPF_ELEM, ...BPF_PROG_TYPE, ...BPF_ATTACH_TYPE }),
);

const U64_MAX = 2n ** 64n - 1n;
const DIGITS = /^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20}|-[0-9]{1,10})$/;

/**
 * Reads an integer: a number, a string of decimal or 0x digits (for u64 above 2^53), the name of a constant, or a list
 * of these, which are or-ed: ["BPF_F_NO_PREALLOC", 4] -> 5. Absent is 0.
 */
function integer(value: unknown, where: string): bigint {
  if (value === undefined) return 0n;
  if (typeof value === "number") {
    if (!Number.isInteger(value)) throw new InvalidInput(where, `an integer required, found ${value}`);
    // JSON.parse has already rounded a number above 2^53; clamp it to u64's maximum, so that a u32 still refuses it as
    // too large.
    const big = BigInt(value);
    return big > U64_MAX ? U64_MAX : big;
  }
  if (typeof value === "string") {
    const constant = CONSTANTS.get(value);
    if (constant !== undefined) return BigInt(constant);
    if (!DIGITS.test(value))
      throw new InvalidInput(where, `an integer or the name of a constant required, found ${shown(value)}`);
    return BigInt(value);
  }
  if (Array.isArray(value)) return value.reduce((all: bigint, one, at) => all | member(one, `${where}[${at}]`), 0n);
  throw new InvalidInput(where, `an integer required, found ${shown(value)}`);
}

/** Lists must not be nested: the recursion's depth would be the caller's choice. */
function member(value: unknown, where: string): bigint {
  if (Array.isArray(value)) throw new InvalidInput(where, `an integer required, found ${shown(value)}`);
  return integer(value, where);
}

/** Reads a u32. Negative numbers down to -2^31 wrap around as in C: -1 -> 4294967295. */
export function u32(value: unknown, where: string): number {
  const number = integer(value, where);
  if (number < -(2n ** 31n) || number >= 2n ** 32n) throw new InvalidInput(where, `32 bits required, found ${number}`);
  return Number(BigInt.asUintN(32, number));
}

/** Reads an s32, as descriptors and NUMA nodes are: 4294967295 -> -1. */
export function s32(value: unknown, where: string): number {
  return u32(value, where) | 0;
}

export function u64(value: unknown, where: string): bigint {
  const number = integer(value, where);
  if (number < -(2n ** 63n) || number > U64_MAX) throw new InvalidInput(where, `64 bits required, found ${number}`);
  return BigInt.asUintN(64, number);
}

const HEX = /^(?:[0-9a-f]{2})*$/i;

/** Decodes hex digits of either case, with or without 0x. */
export function bytes(value: string, where: string): Buffer {
  const digits = value.startsWith("0x") || value.startsWith("0X") ? value.slice(2) : value;
  const decoded = Buffer.from(digits, "hex");
  // Buffer.from stops at the first character that is not hex, so the result is shorter.
  if (decoded.length * 2 !== digits.length) throw new InvalidInput(where, hexFault(digits));
  return decoded;
}

/** Reads a pointer: hex, or null (also absent) for the null pointer. */
export function pointer(value: unknown, where: string): Buffer | null {
  if (value === undefined || value === null) return null;
  if (value instanceof LargeText) return value.bytes(where);
  if (typeof value !== "string")
    throw new InvalidInput(where, `a string of hex digits or null required, found ${shown(value)}`);
  return bytes(value, where);
}

/**
 * Reads a C string behind a pointer, up to its first NUL. Of a long text the first TEXT_LENGTH_MAX characters are
 * enough: the kernel reads no longer string.
 */
export function text(given: unknown, where: string): string | null {
  const value = given instanceof LargeText ? given.text : given;
  if (value === undefined || value === null) return null;
  if (typeof value !== "string") throw new InvalidInput(where, `a string or null required, found ${shown(value)}`);
  const end = value.indexOf("\0");
  return end === -1 ? value : value.slice(0, end);
}

function hexFault(digits: string): string {
  if (HEX.test(digits)) return "the hex digits could not be read";
  const at = digits.search(/[^0-9a-f]/i);
  return at === -1 ? oddFault(digits.length) : digitFault(digits[at] as string, at);
}

export function oddFault(digits: number): string {
  return `an even number of hex digits required, found ${digits}`;
}

export function digitFault(found: string, at: number): string {
  return `hex digits required, found ${JSON.stringify(found)} at ${at}`;
}

const SHOWN_LENGTH = 40;
const SHOWN_LEVELS = 4;

/**
 * A value as an error shows it: JSON of at most about 40 characters, without visiting more of the value than that
 * needs.
 */
export function shown(value: unknown): string {
  const text = beginning(value, SHOWN_LEVELS);
  return text.length > SHOWN_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}...` : text;
}

/** The beginning of a value's JSON, at least SHOWN_LENGTH characters if there are as many. */
function beginning(value: unknown, levels: number): string {
  if (value instanceof Large) return value.start;
  if (typeof value === "string") return JSON.stringify(value.slice(0, SHOWN_LENGTH));
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? String(value);
  const isList = Array.isArray(value);
  if (levels === 0) return isList ? "[...]" : "{...}";
  const items: string[] = [];
  let length = 0;
  for (const name in value) {
    const member = beginning((value as Readonly<Record<string, unknown>>)[name], levels - 1);
    const item = isList ? member : `${beginning(name, levels)}:${member}`;
    items.push(item);
    length += item.length;
    if (length > SHOWN_LENGTH) break;
  }
  return isList ? `[${items.join(",")}]` : `{${items.join(",")}}`;
}

/** Whether a value has more than `most` values nested in its lists and objects; visits no more than that. */
export function hasMoreThan(value: unknown, most: number): boolean {
  const open = [value];
  for (let count = 0; open.length > 0; count++) {
    if (count > most) return true;
    const one = open.pop();
    if (typeof one !== "object" || one === null) continue;
    for (const name in one) {
      if (open.length + count > most) return true;
      open.push((one as Readonly<Record<string, unknown>>)[name]);
    }
  }
  return false;
}

/** Whether lists and objects are nested more than `levels` deep; without recursion. */
export function isDeeperThan(value: unknown, levels: number): boolean {
  let here = [value];
  for (let level = 0; here.length > 0; level++) {
    if (level > levels) return true;
    here = here.flatMap((one) => (typeof one === "object" && one !== null ? Object.values(one) : []));
  }
  return false;
}
