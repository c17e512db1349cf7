/** Enumerations: a name where one fits, else the number. */

import { type Integer, integer } from "./bits.ts";
import { eitherRange, inRange } from "./integers.ts";
import type { Bits, Leaf } from "./leaf.ts";
import { listed, Misfit, shown } from "./misfit.ts";
import type { EnumShape } from "./shape.ts";

/** The widest integer of which every value is an exact number of JavaScript. */
export const EXACT_BITS = 53;

/** How a form shows enumerations. */
export interface EnumStyle {
  /** Numbers beyond EXACT_BITS are strings. */
  readonly quoted: boolean;
  /**
   * An enumerator is found by its bits, too: compilers before LLVM 16 do not say whether an enumeration is signed. If
   * not, by its number alone.
   */
  readonly byBits: boolean;
}

/** Made once of each enumeration, however many members and widths it is used for. */
interface Table {
  /** JSON of names. */
  readonly texts: ReadonlyMap<number | bigint, string>;
  readonly numbers: ReadonlyMap<string, bigint>;
}

const TABLES = new WeakMap<EnumShape, Table>();

/** `signed`: how numbers are shown. Numbers in input may be either. */
export function enumeration(
  shape: EnumShape,
  { shift, bits }: Bits,
  { signed, quoted, byBits }: EnumStyle & { readonly signed: boolean },
): Leaf {
  const of = integer({ shift, width: bits === 0 ? 8 * shape.bytes : bits, signed });
  const { texts, numbers } = tableOf(shape);
  const range = eitherRange(of);
  const number = quoted && of.width > EXACT_BITS ? (bytes: Buffer, at: number) => `"${of.text(bytes, at)}"` : of.text;
  return {
    read: (bytes, at) => {
      const value = of.get(bytes, at);
      const text = texts.get(keyOf(value)) ?? (byBits ? texts.get(keyOf(otherwise(value, of))) : undefined);
      return text ?? number(bytes, at);
    },
    write: (bytes, at, json) => {
      const named = typeof json === "string" ? numbers.get(json) : undefined;
      if (named === undefined && typeof json === "string" && !/^-?[0-9]/.test(json)) return noName(shape, json);
      const value = inRange(named === undefined ? json : String(named), range);
      if (value instanceof Misfit) return value;
      of.set(bytes, at, value);
      return null;
    },
  };
}

function noName({ name, values }: EnumShape, json: string): Misfit {
  const kind = name === "" ? "enumerator" : `enumerator of ${name}`;
  return new Misfit(`no ${kind} ${shown(json)}; it has ${listed(values.map((one) => one.name))}`);
}

/** Of several names for a number the first counts, and of several numbers of a name. */
function tableOf(shape: EnumShape): Table {
  const known = TABLES.get(shape);
  if (known !== undefined) return known;
  const texts = new Map<number | bigint, string>();
  const numbers = new Map<string, bigint>();
  for (const { name, value } of shape.values) {
    const key = keyOf(value);
    if (!texts.has(key) && !numbers.has(name)) texts.set(key, JSON.stringify(name));
    if (!numbers.has(name)) numbers.set(name, value);
  }
  TABLES.set(shape, { texts, numbers });
  return { texts, numbers };
}

/** The same key for the same number, whether it is a bigint or not. */
function keyOf(value: number | bigint): number | bigint {
  const isExact = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER;
  return isExact ? Number(value) : BigInt(value);
}

/** The number that the same bits are if they are signed instead of unsigned, or unsigned instead of signed. */
function otherwise(value: number | bigint, { width, signed }: Integer): number | bigint {
  if (signed && value >= 0) return value;
  if (width <= EXACT_BITS)
    return signed ? Number(value) + 2 ** width : Number(value) - (value >= 2 ** (width - 1) ? 2 ** width : 0);
  return signed ? BigInt.asUintN(width, BigInt(value)) : BigInt.asIntN(width, BigInt(value));
}
