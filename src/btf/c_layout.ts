/**
 * The places that a C compiler gives to members, on machines whose long has 64 bits, and by which attributes and padding
 * they become those that BTF says. A struct has one of three forms:
 *
 *   natural        members are where the compiler puts them, with padding before those that BTF has further back
 *   packed         the same with __attribute__((packed)): each member follows the one before it
 *   overlapping    members that overlap: a union of structs, one for each member
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { Btf } from "./btf.ts";
import { integerOf } from "./c_names.ts";
import { ENUMS, hasMembers } from "./c_parts.ts";

const { ARRAY, DATASEC, FLOAT, INT, PTR, UNION } = BTF_KIND;
const POINTER_BYTES = 8;
const ALIGN_MAX = 16;
const BOOL = 4;
const SIGNED = 1;

export interface Field {
  readonly type: number;
  /** The offset of its name in the strings. */
  readonly name: number;
  readonly offsetBits: number;
  /** The width of a bit field; null: it is none. */
  readonly bits: number | null;
  /** Of a bit field whose type is too narrow for it, or cannot be one: the integer to use instead. */
  readonly instead: string | null;
  /** Bytes and alignment of the type, or of the integer instead. */
  readonly size: number;
  readonly align: number;
}

interface Layout {
  readonly form: "natural" | "packed" | "overlapping";
  /** Bytes. */
  readonly align: number;
  /** Bytes after the last member that the compiler would not add by itself. */
  readonly tail: number;
}

export class Layouts {
  readonly #btf: Btf;
  readonly #known = new Map<number, Layout>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** Of a struct, union or data section. */
  of(id: number): Layout {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    const layout = this.#find(id);
    this.#known.set(id, layout);
    return layout;
  }

  field(id: number, at: number): Field {
    const btf = this.#btf;
    if (btf.kind(id) === DATASEC) return this.#variable(id, at);
    const type = btf.memberType(id, at);
    const { offsetBits, bits } = btf.member(id, at);
    const plain = btf.plain(type);
    const field = { type, name: btf.memberNameOffset(id, at), offsetBits, bits: null, instead: null };
    const size = btf.size(type) ?? 0;
    if (btf.kind(plain) === INT) {
      const int = btf.int(plain);
      const isPart = bits > 0 || int.bits !== size * 8 || (offsetBits + int.offset) % 8 !== 0;
      if (!isPart) return { ...field, size, align: this.align(type) };
      const width = bits || int.bits;
      const mostBits = (btf.int(plain).encoding & BOOL) === 0 ? size * 8 : 1;
      const isSigned = (btf.int(plain).encoding & SIGNED) !== 0;
      return this.#bitField(
        { ...field, offsetBits: offsetBits + (bits > 0 ? 0 : int.offset) },
        width,
        mostBits,
        isSigned,
      );
    }
    if (bits > 0)
      return this.#bitField(field, bits, ENUMS.has(btf.kind(plain) ?? 0) ? size * 8 : 0, btf.kindFlag(plain));
    return { ...field, size, align: this.align(type) };
  }

  /** The bit at which a compiler puts a member if the one before it ends at bit `end`. */
  natural(end: number, { bits, size, align }: Field, isPacked: boolean): number {
    if (bits === null) return upTo(end, isPacked ? 8 : 8 * align);
    return isPacked || (end % (8 * align)) + bits <= 8 * size ? end : upTo(end, 8 * align);
  }

  end({ offsetBits, bits, size }: Field): number {
    return offsetBits + (bits ?? 8 * size);
  }

  /** The alignment in bytes that the C of a type has. */
  align(id: number): number {
    const btf = this.#btf;
    let type = btf.plain(id);
    for (let steps = 0; btf.kind(type) === ARRAY && steps < btf.count; steps++)
      type = btf.plain(btf.array(type).element);
    if (hasMembers(btf, type)) return this.of(type).align;
    if (btf.kind(type) === PTR) return POINTER_BYTES;
    const size = btf.size(type) ?? 1;
    if (btf.kind(type) === FLOAT && size === 12) return 4;
    return size >= 1 && size <= ALIGN_MAX && Number.isInteger(Math.log2(size)) ? size : 1;
  }

  #variable(id: number, at: number): Field {
    const btf = this.#btf;
    const { type: variable, offset, size } = btf.variable(id, at);
    const isVariable = btf.kind(variable) === BTF_KIND.VAR;
    const type = isVariable ? btf.target(variable) : variable;
    const isWhole = btf.size(type) === size;
    return {
      type,
      name: isVariable ? btf.nameOffset(variable) : 0,
      offsetBits: 8 * offset,
      bits: null,
      instead: null,
      size: isWhole ? size : (btf.size(type) ?? 0),
      align: this.align(type),
    };
  }

  #bitField(field: Omit<Field, "bits" | "size" | "align">, bits: number, mostBits: number, isSigned: boolean): Field {
    if (bits <= mostBits) {
      const size = this.#btf.size(field.type) as number;
      const align = this.align(field.type);
      if (align === size) return { ...field, bits, size, align };
    }
    const size = [1, 2, 4, 8, ALIGN_MAX].find((bytes) => bytes * 8 >= bits) ?? ALIGN_MAX;
    return {
      ...field,
      bits: Math.min(bits, 8 * size),
      instead: integerOf(size, isSigned) as string,
      size,
      align: size,
    };
  }

  #find(id: number): Layout {
    if (this.#btf.kind(id) === UNION) return this.#union(id);
    return this.#struct(id, false) ?? this.#struct(id, true) ?? { form: "overlapping", align: 1, tail: 0 };
  }

  /** null: members cannot be where BTF says in this form. */
  #struct(id: number, isPacked: boolean): Layout | null {
    const size = this.#btf.target(id);
    let [end, align] = [0, 1];
    for (let at = 0; at < this.#btf.memberCount(id); at++) {
      const field = this.field(id, at);
      const { offsetBits, bits } = field;
      if (bits === null && offsetBits % 8 !== 0) return null;
      if (this.natural(end, field, isPacked) > offsetBits) return null;
      if (this.natural(offsetBits, field, isPacked) !== offsetBits) return null;
      if (bits !== 0 && !isPacked) align = Math.max(align, field.align);
      end = Math.max(end, this.end(field));
    }
    const used = Math.ceil(end / 8);
    if (used > size || (!isPacked && size % align !== 0))
      return isPacked ? { form: "overlapping", align, tail: 0 } : null;
    return { form: isPacked ? "packed" : "natural", align, tail: upTo(used, align) === size ? 0 : size - used };
  }

  #union(id: number): Layout {
    const size = this.#btf.target(id);
    let [used, align] = [0, 1];
    for (let at = 0; at < this.#btf.memberCount(id); at++) {
      const field = this.field(id, at);
      if (field.offsetBits !== 0) return { form: "overlapping", align: 1, tail: 0 };
      used = Math.max(used, Math.ceil(this.end(field) / 8));
      align = Math.max(align, field.align);
    }
    const isPacked = size % align !== 0;
    return {
      form: isPacked ? "packed" : "natural",
      align: isPacked ? 1 : align,
      tail: (isPacked ? used : upTo(used, align)) === size ? 0 : size,
    };
  }
}

function upTo(number: number, multiple: number): number {
  return Math.ceil(number / multiple) * multiple;
}
