/** Integers in input: numbers of JSON where they are exact, strings of decimal or 0x digits where they need not be. */

import type { Integer } from "./bits.ts";
import { Misfit, shown } from "./misfit.ts";

const DECIMAL = /^-?[0-9]{1,40}$/;
const HEX = /^(-?)0x([0-9a-fA-F]{1,32})$/;

/** The integer that a value of JSON is; null: it is none. A number beyond 2^53 is none, because JSON.parse has rounded it. */
export function integerOf(json: unknown): bigint | number | null {
  if (typeof json === "number") return Number.isSafeInteger(json) ? json : null;
  if (typeof json !== "string") return null;
  if (DECIMAL.test(json)) return BigInt(json);
  const hex = HEX.exec(json);
  if (hex === null) return null;
  const value = BigInt(`0x${hex[2]}`);
  return hex[1] === "-" ? -value : value;
}

export interface Range {
  readonly low: bigint;
  readonly high: bigint;
}

export function rangeOf({ width, signed }: Pick<Integer, "width" | "signed">): Range {
  const high = 1n << BigInt(signed ? width - 1 : width);
  return { low: signed ? -high : 0n, high: high - 1n };
}

/** Reads an integer of a range. */
export function inRange(json: unknown, { low, high }: Range): bigint | number | Misfit {
  const value = integerOf(json);
  if (value === null) return outOf({ low, high }, json);
  return value >= low && value <= high ? value : outOf({ low, high }, json);
}

function outOf({ low, high }: Range, json: unknown): Misfit {
  const isRounded = typeof json === "number" && Number.isInteger(json);
  const hint =
    isRounded && !Number.isSafeInteger(json) && high > 2n ** 53n
      ? "; give it as a string, since JSON has rounded it"
      : "";
  return new Misfit(`${low} to ${high}, found ${shown(json)}${hint}`);
}
