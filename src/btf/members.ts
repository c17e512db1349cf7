/**
 * Checks the places of members in structs and unions: check_member and check_kflag_member of each kind,
 * kernel/bpf/btf.c.
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";

const U32_MAX = 2 ** 32 - 1;
/** BITS_PER_U128 */
const COPIED_BITS_MAX = 128;
/** A bit field of an enum has at most the bits of an int, whatever the enum's size is. */
const ENUM_BITS = 32;
/** Widths of a regular int: u8 to __int128. */
const REGULAR_BITS: ReadonlySet<number> = new Set([8, 16, 32, 64, 128]);

/** Answers about types that have been resolved. */
export interface Sizes {
  /** The type without typedefs and modifiers; undefined: it has no size. */
  sized(id: number): number | undefined;
  /** The size in bytes of a type that `sized` returned. */
  bytes(id: number): number;
}

export function isRegularInt(btf: Btf, id: number): boolean {
  const { offset, bits } = btf.int(id);
  return offset === 0 && REGULAR_BITS.has(bits);
}

export function checkMember(btf: Btf, sizes: Sizes, struct: number, at: number): Refusal | null {
  const type = sizes.sized(btf.memberType(struct, at));
  const { offsetBits, bits } = btf.member(struct, at);
  if (type !== undefined && fits(btf, sizes, { struct, type, offsetBits, bits })) return null;
  return refuse("EINVAL", `BTF's type ${struct} has a member at bit ${offsetBits}, where it cannot be`);
}

interface Member {
  readonly struct: number;
  readonly type: number;
  readonly offsetBits: number;
  /** 0: it is not a bit field. */
  readonly bits: number;
}

function fits(btf: Btf, sizes: Sizes, { struct, type, offsetBits, bits }: Member): boolean {
  const size = btf.target(struct);
  const kind = btf.kind(type);
  if (btf.kindFlag(struct)) {
    if (kind === BTF_KIND.INT) return isRegularInt(btf, type) && fieldFits(btf.int(type).bits, offsetBits, bits, size);
    if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) {
      if (bits === 0 ? offsetBits % 8 !== 0 : bits > ENUM_BITS) return false;
      return Math.ceil((offsetBits + (bits || ENUM_BITS)) / 8) <= size;
    }
    if (bits !== 0) return false;
  }
  if (kind === BTF_KIND.INT) {
    const int = btf.int(type);
    return offsetBits + int.offset <= U32_MAX && bitsFit(offsetBits + int.offset, int.bits, size);
  }
  const bytes = sizes.bytes(type);
  const alignedBits = kind === BTF_KIND.FLOAT ? 8 * Math.min(8, bytes) : 8;
  return offsetBits % alignedBits === 0 && offsetBits / 8 + bytes <= size;
}

/** Whether a bit field, or a whole regular int if `bits` is 0, fits in the struct. */
function fieldFits(intBits: number, offsetBits: number, bits: number, size: number): boolean {
  if (bits === 0 ? offsetBits % 8 !== 0 : bits > intBits) return false;
  return bitsFit(offsetBits, bits || intBits, size);
}

/** Whether bits fit in the struct. The kernel copies them from the byte that has the first of them. */
function bitsFit(offsetBits: number, bits: number, size: number): boolean {
  const copied = bits + (offsetBits % 8);
  return copied <= COPIED_BITS_MAX && Math.floor(offsetBits / 8) + Math.ceil(copied / 8) <= size;
}
