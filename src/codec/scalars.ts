import { BPF_ATTACH_TYPE, BPF_ELEM, BPF_F, BPF_MAP_TYPE, BPF_PROG_TYPE } from "../abi/bpf.ts";
import { InvalidInput } from "./invalid.ts";
import { Large, LargeText } from "./large.ts";

/** Constants of <linux/bpf.h> that stand for a number wherever one is taken. */
const CONSTANTS = new Map<string, number>(
  Object.entries({ ...BPF_MAP_TYPE, ...BPF_F, ...BPF_ELEM, ...BPF_PROG_TYPE, ...BPF_ATTACH_TYPE }),
);

const U64_MAX = 2n ** 64n - 1n;
const DIGITS = /^(0x[0-9a-fA-F]{1,16}|[0-9]{1,20}|-[0-9]{1,10})$/;

/**
 * An integer as JSON has it: a number, a string of digits (or 0x and hex digits) for what passes 2^53, the name of a
 * constant, or a list of these, which are or-ed. Absent is 0.
 */
function integer(value: unknown, where: string): bigint {
  if (value === undefined) return 0n;
  if (typeof value === "number") {
    if (!Number.isInteger(value)) throw new InvalidInput(where, `an integer is needed, found ${value}`);
    // Beyond 2^53 the digits are lost already; what is left to say is that it is large.
    const big = BigInt(value);
    return big > U64_MAX ? U64_MAX : big;
  }
  if (typeof value === "string") {
    const constant = CONSTANTS.get(value);
    if (constant !== undefined) return BigInt(constant);
    if (!DIGITS.test(value))
      throw new InvalidInput(where, `an integer or the name of a constant is needed, found ${shown(value)}`);
    return BigInt(value);
  }
  if (Array.isArray(value)) return value.reduce((all: bigint, one, at) => all | member(one, `${where}[${at}]`), 0n);
  throw new InvalidInput(where, `an integer is needed, found ${shown(value)}`);
}

/** Lists do not nest: a caller says how deep they would be. */
function member(value: unknown, where: string): bigint {
  if (Array.isArray(value)) throw new InvalidInput(where, `an integer is needed, found ${shown(value)}`);
  return integer(value, where);
}

/** A u32. Negative numbers down to -2^31 are taken as C takes them. */
export function u32(value: unknown, where: string): number {
  const number = integer(value, where);
  if (number < -(2n ** 31n) || number >= 2n ** 32n)
    throw new InvalidInput(where, `32 bits are needed, found ${number}`);
  return Number(BigInt.asUintN(32, number));
}

/** An s32: descriptors and NUMA nodes. 4294967295 is -1. */
export function s32(value: unknown, where: string): number {
  return u32(value, where) | 0;
}

export function u64(value: unknown, where: string): bigint {
  const number = integer(value, where);
  if (number < -(2n ** 63n) || number > U64_MAX) throw new InvalidInput(where, `64 bits are needed, found ${number}`);
  return BigInt.asUintN(64, number);
}

const HEX = /^(?:[0-9a-f]{2})*$/i;

/** Hex digits, two a byte, either case, a leading 0x allowed. */
export function bytes(value: string, where: string): Buffer {
  const digits = value.startsWith("0x") || value.startsWith("0X") ? value.slice(2) : value;
  const decoded = Buffer.from(digits, "hex");
  // Buffer.from stops at what is no hex: a short answer tells.
  if (decoded.length * 2 !== digits.length) throw new InvalidInput(where, hexFault(digits));
  return decoded;
}

/** A pointer: null and absent are the null pointer. */
export function pointer(value: unknown, where: string): Buffer | null {
  if (value === undefined || value === null) return null;
  if (value instanceof LargeText) return value.bytes(where);
  if (typeof value !== "string")
    throw new InvalidInput(where, `a string of hex digits or null is needed, found ${shown(value)}`);
  return bytes(value, where);
}

/** A C string behind a pointer: it ends at its first NUL. Of a longer one than any that the kernel reads the beginning is enough. */
export function text(given: unknown, where: string): string | null {
  const value = given instanceof LargeText ? given.text : given;
  if (value === undefined || value === null) return null;
  if (typeof value !== "string") throw new InvalidInput(where, `a string or null is needed, found ${shown(value)}`);
  const end = value.indexOf("\0");
  return end === -1 ? value : value.slice(0, end);
}

function hexFault(digits: string): string {
  if (HEX.test(digits)) return "the hex digits could not be read";
  const at = digits.search(/[^0-9a-f]/i);
  return at === -1 ? oddFault(digits.length) : digitFault(digits[at] as string, at);
}

export function oddFault(digits: number): string {
  return `hex digits come in pairs, found ${digits} of them`;
}

export function digitFault(found: string, at: number): string {
  return `hex digits are needed, found ${JSON.stringify(found)} at ${at}`;
}

const SHOWN_LENGTH = 40;
const SHOWN_LEVELS = 4;

/** A value as a message shows it: not more than fits, of however much there is, and however deep. */
export function shown(value: unknown): string {
  const text = beginning(value, SHOWN_LEVELS);
  return text.length > SHOWN_LENGTH ? `${text.slice(0, SHOWN_LENGTH)}...` : text;
}

/** JSON, of which at least as much is there as is shown. */
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

/** Whether there are more than so many values in lists and objects: no more of them are looked at. */
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

/** Whether lists and objects stand in each other more than so many times; found without a call for each. */
export function isDeeperThan(value: unknown, levels: number): boolean {
  let here = [value];
  for (let level = 0; here.length > 0; level++) {
    if (level > levels) return true;
    here = here.flatMap((one) => (typeof one === "object" && one !== null ? Object.values(one) : []));
  }
  return false;
}
