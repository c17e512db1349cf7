/** Integers in input: numbers of JSON where they are exact, strings of decimal or 0x digits where they need not be. */

import type { Integer } from "./bits.ts";
import { Misfit, shown } from "./misfit.ts";

const DECIMAL = /^-?[0-9]{1,40}$/;
/** Decimal digits, a sign included, of which every number is exact. */
const EXACT_DIGITS = 15;
const HEX = /^(-?)0x([0-9a-fA-F]{1,32})$/;

/** The integer that a value of JSON is; null: it is none. A number beyond 2^53 is none, because JSON.parse has rounded it. */
export function integerOf(json: unknown): bigint | number | null {
  if (typeof json === "number") return Number.isSafeInteger(json) ? json : null;
  if (typeof json !== "string") return null;
  if (DECIMAL.test(json)) return json.length <= EXACT_DIGITS ? Number(json) : BigInt(json);
  const hex = HEX.exec(json);
  if (hex === null) return null;
  const value = BigInt(`0x${hex[2]}`);
  return hex[1] === "-" ? -value : value;
}

export interface Range {
  readonly low: bigint;
  readonly high: bigint;
  /** `low` and `high` as numbers, which may be rounded outwards. */
  readonly min: number;
  readonly max: number;
}

export function range(low: bigint, high: bigint): Range {
  return { low, high, min: Number(low), max: Number(high) };
}

export function rangeOf({ width, signed }: Pick<Integer, "width" | "signed">): Range {
  const end = 1n << BigInt(signed ? width - 1 : width);
  return range(signed ? -end : 0n, end - 1n);
}

/** The numbers that bits stand for, taken as signed and taken as unsigned. */
export function eitherRange({ width }: Pick<Integer, "width">): Range {
  return range(rangeOf({ width, signed: true }).low, rangeOf({ width, signed: false }).high);
}

/** Reads an integer of a range. */
export function inRange(json: unknown, of: Range): bigint | number | Misfit {
  if (typeof json === "number")
    return Number.isSafeInteger(json) && json >= of.min && json <= of.max ? json : outOf(of, json);
  const value = integerOf(json);
  return value !== null && value >= of.low && value <= of.high ? value : outOf(of, json);
}

function outOf({ low, high }: Range, json: unknown): Misfit {
  const isRounded = typeof json === "number" && Number.isInteger(json);
  const hint =
    isRounded && !Number.isSafeInteger(json) && high > 2n ** 53n
      ? "; give it as a string, since JSON has rounded it"
      : "";
  return new Misfit(`${low} to ${high}, found ${shown(json)}${hint}`);
}
