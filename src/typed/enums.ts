/** Enumerations: a name where one fits, else the number. */

import { type Integer, integer } from "./bits.ts";
import { eitherRange, inRange } from "./integers.ts";
import type { Bits, Leaf } from "./leaf.ts";
import { listed, Misfit, shown } from "./misfit.ts";
import type { EnumShape } from "./shape.ts";

/** The widest integer of which every value is an exact number of JavaScript. */
export const EXACT_BITS = 53;

/** The bits that an enumeration has, or a bitfield of it. */
export function enumInteger(shape: EnumShape, { shift, bits }: Bits, signed: boolean): Integer {
  return integer({ shift, width: bits === 0 ? 8 * shape.bytes : bits, signed });
}

export interface Enumerators {
  /** Names by the numbers that an Integer reads. */
  readonly byValue: ReadonlyMap<number | bigint, string>;
  /** Numbers are shown as strings. */
  readonly quoted: boolean;
}

/**
 * Numbers in input may be signed or not, whatever the enumeration is:
 * compilers before LLVM 16 did not say.
 */
export function enumeration(shape: EnumShape, of: Integer, { byValue, quoted }: Enumerators): Leaf {
  const numbers = new Map<string, bigint>();
  for (const { name, value } of shape.values) if (!numbers.has(name)) numbers.set(name, value);
  const texts = new Map<number | bigint, string>();
  for (const [value, name] of byValue) texts.set(value, JSON.stringify(name));
  const range = eitherRange(of);
  const number = quoted ? (bytes: Buffer, at: number) => `"${of.text(bytes, at)}"` : of.text;
  return {
    read: (bytes, at) => texts.get(of.get(bytes, at)) ?? number(bytes, at),
    write: (bytes, at, json) => {
      const named = typeof json === "string" ? numbers.get(json) : undefined;
      if (named === undefined && typeof json === "string" && !/^-?[0-9]/.test(json))
        return new Misfit(
          `no ${shape.name === "" ? "enumerator" : `enumerator of ${shape.name}`} ${shown(json)}; it has ${listed(numbers.keys())}`,
        );
      const value = inRange(named === undefined ? json : String(named), range);
      if (value instanceof Misfit) return value;
      of.set(bytes, at, value);
      return null;
    },
  };
}

/** Names by the numbers that the bits stand for. An enumerator that does not fit the bits has none. */
export function typedNames(shape: EnumShape, of: Integer): ReadonlyMap<number | bigint, string> {
  const { low, high } = eitherRange(of);
  const names = new Map<number | bigint, string>();
  const seen = new Set<string>();
  for (const { name, value } of shape.values) {
    const as = of.signed ? BigInt.asIntN(of.width, value) : BigInt.asUintN(of.width, value);
    const key = of.width > EXACT_BITS ? as : Number(as);
    if (value >= low && value <= high && !names.has(key) && !seen.has(name)) names.set(key, name);
    seen.add(name);
  }
  return names;
}
