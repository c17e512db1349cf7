import { type Bits, WHOLE } from "./leaf.ts";
import type { Shape } from "./shape.ts";

/** The bits of a shape that its typed form has. The others are padding. */
export function coverage(shape: Shape, bits: Bits = WHOLE): Buffer {
  const mask = Buffer.alloc(shape.bytes);
  cover(mask, 0, { shape, bits });
  return mask;
}

function cover(mask: Buffer, at: number, { shape, bits }: { shape: Shape; bits: Bits }): void {
  switch (shape.kind) {
    case "struct":
    case "union":
    case "section":
      for (const member of shape.members) cover(mask, at + member.at, { shape: member.shape, bits: member });
      return;
    case "array": {
      const element = coverage(shape.element);
      for (let index = 0; index < shape.count; index++) merge(mask, at + index * element.length, element);
      return;
    }
    case "int": {
      const width = bits.bits === 0 ? shape.bits : bits.bits;
      coverBits(mask, at, { shift: bits.shift + (bits.bits === 0 ? shape.offset : 0), width });
      return;
    }
    default:
      coverBits(mask, at, { shift: bits.shift, width: bits.bits === 0 ? 8 * shape.bytes : bits.bits });
  }
}

function coverBits(mask: Buffer, at: number, { shift, width }: { shift: number; width: number }): void {
  for (let bit = shift; bit < shift + width; bit++) {
    if (bit % 8 === 0 && bit + 8 <= shift + width) {
      mask[at + bit / 8] = 0xff;
      bit += 7;
    } else mask[at + (bit >>> 3)] = (mask[at + (bit >>> 3)] as number) | (1 << (bit & 7));
  }
}

/** Or-s bytes into others. */
export function merge(into: Buffer, at: number, bytes: Buffer): void {
  for (let byte = 0; byte < bytes.length; byte++)
    into[at + byte] = (into[at + byte] as number) | (bytes[byte] as number);
}

/** Whether each bit of `part` is one of `whole`, which may be longer. */
export function covers(whole: Buffer, part: Buffer): boolean {
  for (let byte = 0; byte < part.length; byte++)
    if (((part[byte] as number) & ~((whole[byte] as number | undefined) ?? 0)) !== 0) return false;
  return true;
}
