/** The scalars, and the arrays of char, of the typed form (docs/typed.md). */

import { integer } from "./bits.ts";
import { cString } from "./c_string.ts";
import { codecLeaf } from "./codecs.ts";
import { EXACT_BITS, enumeration } from "./enums.ts";
import { float } from "./floats.ts";
import { eitherRange, inRange, rangeOf } from "./integers.ts";
import type { Bits, Dialect, Leaf } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";
import type { IntShape, PointerShape } from "./shape.ts";
import { bare } from "./shape_maker.ts";

const U64 = rangeOf({ width: 64, signed: false });

export const TYPED: Dialect = {
  flat: true,
  coded: true,
  leaf: (shape, bits) => {
    switch (shape.kind) {
      case "int":
        return shape.isBool ? bool(shape, bits) : int(shape, bits);
      case "enum":
        return enumeration(shape, bits, { signed: shape.signed, quoted: true, byBits: true });
      case "float":
        return float(shape.bytes, false);
      case "pointer":
        return pointer(shape);
      case "coded": {
        const inner = bare(shape);
        return codecLeaf(shape.codec, shape.bytes, (inner.kind === "int" || inner.kind === "enum") && inner.signed);
      }
    }
  },
  chars: ({ count }, numbers) => cString(count, numbers, true),
};

function int(shape: IntShape, { shift, bits }: Bits): Leaf {
  const of = integer({
    shift: shift + (bits === 0 ? shape.offset : 0),
    width: bits === 0 ? shape.bits : bits,
    signed: shape.signed,
  });
  // char is signed or not, as the compiler likes: both are taken.
  const range = shape.isChar ? eitherRange(of) : rangeOf(of);
  const isWide = of.width > EXACT_BITS;
  return {
    read: isWide ? (bytes, at) => `"${of.text(bytes, at)}"` : of.text,
    write: (bytes, at, json) => {
      const value = inRange(json, range);
      if (value instanceof Misfit) return value;
      of.set(bytes, at, value);
      return null;
    },
  };
}

function bool(shape: IntShape, { shift, bits }: Bits): Leaf {
  const of = integer({
    shift: shift + (bits === 0 ? shape.offset : 0),
    width: bits === 0 ? shape.bits : bits,
    signed: false,
  });
  return {
    read: (bytes, at) => {
      const value = Number(of.get(bytes, at));
      return value > 1 ? new Misfit(`a bool of ${value}`) : value === 1 ? "true" : "false";
    },
    write: (bytes, at, json) => {
      if (json !== true && json !== false && json !== 0 && json !== 1)
        return new Misfit(`true or false required, found ${shown(json)}`);
      of.set(bytes, at, Number(json));
      return null;
    },
  };
}

function pointer({ kernel }: PointerShape): Leaf {
  return {
    read: (bytes, at) => `"0x${bytes.readBigUInt64LE(at).toString(16)}"`,
    write: (bytes, at, json) => {
      const value = inRange(json, U64);
      if (value instanceof Misfit) return value;
      if (kernel && BigInt(value) !== 0n)
        return new Misfit(`"0x0" required, since only programs write a kernel pointer, found ${shown(json)}`);
      bytes.writeBigUInt64LE(BigInt(value), at);
      return null;
    },
  };
}
