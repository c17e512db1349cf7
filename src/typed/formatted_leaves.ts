/**
 * The scalars, and the arrays of char, as `bpftool -j map dump` of Debian 12 prints them (tools/bpf/bpftool/btf_dumper.c,
 * json_writer.c, Linux 6.1). Where its text is no JSON, or shows another value than there is, this one is right;
 * docs/typed.md lists these places.
 */

import { type Integer, integer } from "./bits.ts";
import { cString } from "./c_string.ts";
import { enumeration } from "./enums.ts";
import { float } from "./floats.ts";
import { eitherRange, inRange, rangeOf } from "./integers.ts";
import type { Bits, Dialect, Leaf } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";
import type { IntShape, PointerShape } from "./shape.ts";
import { bare } from "./shape_maker.ts";

/** Widths of integers that are decimal numbers. */
const DECIMAL: ReadonlySet<number> = new Set([8, 16, 32, 64]);
const U64 = rangeOf({ width: 64, signed: false });

export const FORMATTED: Dialect = {
  flat: false,
  coded: false,
  leaf: (shape, bits) => {
    switch (shape.kind) {
      case "int":
        return int(shape, bits);
      // As signed numbers, whatever the enumeration is: an enumerator above the signed maximum of its bytes is not found.
      case "enum":
        return bits.bits === 0
          ? enumeration(shape, bits, { signed: true, quoted: false, byBits: shape.is64 })
          : hex(integer({ shift: bits.shift, width: bits.bits, signed: shape.signed }));
      case "float":
        return float(shape.bytes, true);
      case "pointer":
        return pointer(shape);
      case "coded":
        throw new Error(`the formatted form of a ${bare(shape).kind} has no codec`);
    }
  },
  chars: ({ count, plainChars }, numbers) => (plainChars ? cString(count, numbers, false) : numbers),
};

function int(shape: IntShape, { shift, bits }: Bits): Leaf {
  const own = { shift: shift + shape.offset, width: shape.bits, signed: shape.signed };
  if (bits !== 0) return hex(integer({ shift, width: bits, signed: shape.signed }));
  if (shift !== 0 || shape.offset !== 0) return hex(integer(own));
  if (shape.bits === 128) return hex(integer({ ...own, signed: false }));
  if (shape.isChar && shape.bits === 8) return char();
  if (shape.isBool && shape.bits % 8 === 0) return bool(integer(own));
  return DECIMAL.has(shape.bits) ? decimal(integer(own)) : hex(integer(own));
}

function number(of: Integer, read: Leaf["read"], range = rangeOf(of)): Leaf {
  return {
    read,
    write: (bytes, at, json) => {
      const value = inRange(json, range);
      if (value instanceof Misfit) return value;
      of.set(bytes, at, value);
      return null;
    },
  };
}

function decimal(of: Integer): Leaf {
  return number(of, of.text);
}

/** Bitfields, and integers of odd widths. Input may be the two's complement of a negative number, as bpftool prints it. */
function hex(of: Integer): Leaf {
  const read: Leaf["read"] = (bytes, at) => {
    const value = of.get(bytes, at);
    return value < 0 ? `"-0x${(-value).toString(16)}"` : `"0x${value.toString(16)}"`;
  };
  return number(of, read, eitherRange(of));
}

function bool(of: Integer): Leaf {
  const isSet = (bytes: Buffer, at: number): boolean => BigInt(of.get(bytes, at)) !== 0n;
  return {
    read: (bytes, at) => (isSet(bytes, at) ? "true" : "false"),
    write: (bytes, at, json) => {
      if (typeof json !== "boolean") return new Misfit(`true or false required, found ${shown(json)}`);
      of.set(bytes, at, json ? 1 : 0);
      return null;
    },
  };
}

/** An integer with the encoding of char, which clang does not write: one character, escaped if it is not printable. */
function char(): Leaf {
  return {
    read: (bytes, at) => {
      const byte = bytes[at] as number;
      if (byte < 0x20 || byte > 0x7e) return `"\\u00${byte.toString(16).padStart(2, "0")}"`;
      return JSON.stringify(String.fromCharCode(byte));
    },
    write: (bytes, at, json) => {
      if (typeof json !== "string" || json.length !== 1 || json.charCodeAt(0) > 0xff)
        return new Misfit(`one character up to \\u00ff required, found ${shown(json)}`);
      bytes[at] = json.charCodeAt(0);
      return null;
    },
  };
}

function pointer({ kernel }: PointerShape): Leaf {
  const of = integer({ shift: 0, width: 64, signed: false });
  return {
    read: of.text,
    write: (bytes, at, json) => {
      const value = inRange(json, U64);
      if (value instanceof Misfit) return value;
      if (kernel && BigInt(value) !== 0n)
        return new Misfit(`0 required, since only programs write a kernel pointer, found ${shown(json)}`);
      of.set(bytes, at, value);
      return null;
    },
  };
}
