/**
 * BTF as a table of types with their sizes and members. Source: kernel/bpf/btf.c, <linux/btf.h>. All numbers are
 * little-endian. After the header (header.ts) come the types and then the strings, which names are offsets into. A type
 * begins with struct btf_type, followed by further fields that depend on its kind:
 *
 *   0 u32 name  4 u32 info (vlen, kind << 24, kind_flag << 31)  8 u32 size or type
 */

import { BTF_KIND, BTF_TYPE_ID_MAX, MODIFIERS, REST } from "../maps/btf_types.ts";
import type { BtfType } from "../maps/map.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import { readHeader } from "./header.ts";

const TYPE_BYTES = 12;
const MEMBER_BYTES = 12;
const PARAM_BYTES = 8;
const ENUM_BYTES = 8;
const ENUM64_BYTES = 12;
const VOID = 0;
const POINTER_BYTES = 8;
/** The bytes that `name` reads of a name: more than any name that it is compared with. */
const NAME_BYTES_MAX = 32;

export const SIZED: ReadonlySet<number> = new Set([
  BTF_KIND.INT,
  BTF_KIND.STRUCT,
  BTF_KIND.UNION,
  BTF_KIND.ENUM,
  BTF_KIND.ENUM64,
  BTF_KIND.DATASEC,
  BTF_KIND.FLOAT,
]);
/** Kinds that have the size of another type. */
const NAMED: ReadonlySet<number> = new Set([...MODIFIERS, BTF_KIND.VAR]);

/** In place of a type's size that was not computed yet; NaN: the type has no size. */
const UNKNOWN = -1;

/** struct btf_type by id, in columns. Id 0 is void. */
interface Types {
  readonly count: number;
  /** The offset of the type in the blob. */
  readonly at: Uint32Array;
  readonly kind: Uint8Array;
  readonly vlen: Uint16Array;
  readonly kindFlag: Uint8Array;
  readonly sizeOrType: Uint32Array;
}

/**
 * A blob whose header and types are well-formed. Ids go from 0 (void) to `count` - 1. Each type is resolved once, so
 * asking for all types and members takes time linear in the blob, however long its chains of types are.
 */
export class Btf {
  readonly #blob: Buffer;
  readonly #types: Types;
  readonly #strings: Buffer;
  /** By id: the id of the type without typedefs and modifiers, plus one; 0: not resolved yet. */
  readonly #plain: Uint32Array;
  readonly #sizes: Float64Array;

  private constructor(blob: Buffer, types: Types, strings: Buffer) {
    this.#blob = blob;
    this.#types = types;
    this.#strings = strings;
    this.#plain = new Uint32Array(types.count);
    this.#sizes = new Float64Array(types.count).fill(UNKNOWN);
  }

  /**
   * Parses a blob that some release of BPF_BTF_LOAD has accepted. It checks less than `checkedBtf` (check.ts): earlier
   * releases accepted more, and their logs must be readable. EINVAL or ENOTSUPP if it is not BTF at all.
   */
  static parse(blob: Buffer): Btf | Refusal {
    const header = readHeader(blob);
    if (isRefusal(header)) return header;
    const { headerBytes, typeOff, typeLen, strOff, strLen } = header;
    const whole = headerBytes + Math.max(typeOff + typeLen, strOff + strLen);
    if (typeLen === 0 || typeLen % 4 !== 0 || whole !== blob.length)
      return refuse("EINVAL", "BTF's sections do not make up the whole of it");
    const strings = blob.subarray(headerBytes + strOff, headerBytes + strOff + strLen);
    if (strLen === 0 || strings[0] !== 0 || strings[strLen - 1] !== 0)
      return refuse("EINVAL", "BTF's strings do not begin and end with NUL");
    const types = readTypes(blob, headerBytes + typeOff, typeLen, strLen);
    return isRefusal(types) ? types : new Btf(blob, types, strings);
  }

  get count(): number {
    return this.#types.count;
  }

  /** undefined: there is no such type. */
  kind(id: number): number | undefined {
    return this.#types.kind[id];
  }

  kindFlag(id: number): boolean {
    return this.#types.kindFlag[id] === 1;
  }

  /** The first NAME_BYTES_MAX bytes of the type's name. */
  name(id: number): string {
    const at = this.#types.at[id];
    if (at === undefined || this.kind(id) === VOID) return "";
    const start = this.#blob.readUInt32LE(at);
    const beginning = this.#strings.subarray(start, start + NAME_BYTES_MAX);
    const end = beginning.indexOf(0);
    return beginning.toString("latin1", 0, end === -1 ? undefined : end);
  }

  /** The type's whole name, however long it is. */
  wholeName(id: number): string {
    return this.#string(this.#blob.readUInt32LE(this.#types.at[id] as number));
  }

  memberName(id: number, at: number): string {
    return this.#string(this.#blob.readUInt32LE(this.#rest(id) + at * MEMBER_BYTES));
  }

  /** The type that a modifier or pointer refers to; for other kinds the size. */
  target(id: number): number {
    return this.#types.sizeOrType[id] ?? 0;
  }

  /** The types of an array's elements and of its index, and its number of elements. */
  array(id: number): { readonly element: number; readonly index: number; readonly count: number } {
    const at = this.#rest(id);
    const word = (offset: number): number => this.#blob.readUInt32LE(at + offset);
    return { element: word(0), index: word(4), count: word(8) };
  }

  get strings(): Buffer {
    return this.#strings;
  }

  /** vlen: the number of members of a struct or union, variables of a data section, parameters of a prototype. */
  memberCount(id: number): number {
    return this.#types.vlen[id] ?? 0;
  }

  memberType(id: number, at: number): number {
    return this.#blob.readUInt32LE(this.#rest(id) + at * MEMBER_BYTES + 4);
  }

  memberOffsetBits(id: number, at: number): number {
    const offset = this.#blob.readUInt32LE(this.#rest(id) + at * MEMBER_BYTES + 8);
    return this.kindFlag(id) ? offset & 0xffffff : offset;
  }

  /** A member's offset, and its width in bits if it is a bit field; 0: it is not a bit field. */
  member(id: number, at: number): { readonly offsetBits: number; readonly bits: number } {
    const offset = this.#blob.readUInt32LE(this.#rest(id) + at * MEMBER_BYTES + 8);
    return this.kindFlag(id) ? { offsetBits: offset & 0xffffff, bits: offset >>> 24 } : { offsetBits: offset, bits: 0 };
  }

  /** A parameter of a prototype. `name`: an offset in the strings. */
  param(id: number, at: number): { readonly name: number; readonly type: number } {
    const start = this.#rest(id) + at * PARAM_BYTES;
    return { name: this.#blob.readUInt32LE(start), type: this.#blob.readUInt32LE(start + 4) };
  }

  /** An integer's offset and width, in bits, and its encoding: INT_ENCODING (maps/btf_types.ts) or 0. */
  int(id: number): { readonly offset: number; readonly bits: number; readonly encoding: number } {
    const word = this.#blob.readUInt32LE(this.#rest(id));
    return { offset: (word >>> 16) & 0xff, bits: word & 0xff, encoding: (word >>> 24) & 0x0f };
  }

  /** The index of the member or parameter that a declaration tag is for; -1: it is for the whole type. */
  component(id: number): number {
    return this.#blob.readInt32LE(this.#rest(id));
  }

  /** An enumerator's name, as an offset in the strings, and its value. */
  enumerator(id: number, at: number): { readonly name: number; readonly value: bigint } {
    const isWide = this.kind(id) === BTF_KIND.ENUM64;
    const start = this.#rest(id) + at * (isWide ? ENUM64_BYTES : ENUM_BYTES);
    const low = this.#blob.readUInt32LE(start + 4);
    const bits = isWide ? (BigInt(this.#blob.readUInt32LE(start + 8)) << 32n) | BigInt(low) : BigInt(low);
    const value = this.kindFlag(id) ? BigInt.asIntN(isWide ? 64 : 32, bits) : bits;
    return { name: this.#blob.readUInt32LE(start), value };
  }

  /** A variable's linkage: BTF_VAR_STATIC is 0, BTF_VAR_GLOBAL_ALLOCATED 1, BTF_VAR_GLOBAL_EXTERN 2. */
  linkage(id: number): number {
    return this.#blob.readUInt32LE(this.#rest(id));
  }

  /** The offset of a type's name in the strings; 0: it has none. */
  nameOffset(id: number): number {
    return this.#blob.readUInt32LE(this.#types.at[id] as number);
  }

  memberNameOffset(id: number, at: number): number {
    return this.#blob.readUInt32LE(this.#rest(id) + at * MEMBER_BYTES);
  }

  /** The string at an offset; of a longer one the first `bytesMax` bytes. */
  text(offset: number, bytesMax: number): string {
    const beginning = this.#strings.subarray(offset, offset + bytesMax);
    const end = beginning.indexOf(0);
    return beginning.toString("latin1", 0, end === -1 ? undefined : end);
  }

  /** A variable of a data section: struct btf_var_secinfo. */
  variable(id: number, at: number): { readonly type: number; readonly offset: number; readonly size: number } {
    const start = this.#rest(id) + at * MEMBER_BYTES;
    const word = (offset: number): number => this.#blob.readUInt32LE(start + offset);
    return { type: word(0), offset: word(4), size: word(8) };
  }

  /** btf_type_id_size(): the type of a map's keys or values; undefined if it has no size. */
  type(id: number): BtfType | undefined {
    const type = this.#sized(id);
    if (type?.kind !== BTF_KIND.STRUCT) return type;
    const members = Array.from({ length: this.memberCount(type.id) }, (_, at) => ({
      type: this.#sized(this.memberType(type.id, at)),
      offsetBits: this.memberOffsetBits(type.id, at),
    }));
    return { ...type, members };
  }

  /** The size in bytes of a type; undefined if it has none. */
  size(id: number): number | undefined {
    const size = this.#sizeOf(this.plain(id));
    return Number.isNaN(size) ? undefined : size;
  }

  /** The width in bits of an integer; 0 for other types. */
  bits(id: number): number {
    const plain = this.plain(id);
    return this.kind(plain) === BTF_KIND.INT ? this.int(plain).bits : 0;
  }

  /** A type without typedefs and modifiers, however many there are. */
  plain(id: number): number {
    if (!NAMED.has(this.#types.kind[id] ?? VOID)) return id;
    let plain = id;
    for (let steps = 0; steps < this.count; steps++) {
      const known = this.#plain[plain] ?? 0;
      if (known !== 0) plain = known - 1;
      if (known !== 0 || !NAMED.has(this.kind(plain) ?? VOID)) break;
      plain = this.target(plain);
    }
    for (let passed = id; passed !== plain && this.#plain[passed] === 0; passed = this.target(passed))
      this.#plain[passed] = plain + 1;
    return plain;
  }

  /** A sized type, without its members. */
  #sized(id: number): BtfType | undefined {
    const size = this.size(id);
    const plain = this.plain(id);
    return size === undefined
      ? undefined
      : { id: plain, kind: this.kind(plain) ?? VOID, size, bits: this.bits(id), members: [] };
  }

  /**
   * The size in bytes of a type without typedefs and modifiers; NaN: none. The innermost element type of an array of
   * arrays is sized first, without recursion.
   */
  #sizeOf(id: number): number {
    if (this.#types.kind[id] !== BTF_KIND.ARRAY) return this.#bytes(id);
    const arrays: number[] = [];
    let inner = id;
    for (
      ;
      this.kind(inner) === BTF_KIND.ARRAY && this.#sizes[inner] === UNKNOWN;
      inner = this.plain(this.array(inner).element)
    ) {
      this.#sizes[inner] = Number.NaN;
      arrays.push(inner);
    }
    let size = this.kind(inner) === BTF_KIND.ARRAY ? (this.#sizes[inner] as number) : this.#bytes(inner);
    for (let array = arrays.pop(); array !== undefined; array = arrays.pop()) {
      size *= this.array(array).count;
      this.#sizes[array] = size;
    }
    return size;
  }

  /** The size in bytes of a type that is not an array; NaN: none. */
  #bytes(id: number): number {
    const kind = this.kind(id) ?? VOID;
    if (kind === BTF_KIND.PTR) return POINTER_BYTES;
    return SIZED.has(kind) ? this.target(id) : Number.NaN;
  }

  #string(start: number): string {
    return this.#strings.toString("latin1", start, this.#strings.indexOf(0, start));
  }

  /** The offset of the fields that follow struct btf_type. */
  #rest(id: number): number {
    return (this.#types.at[id] as number) + TYPE_BYTES;
  }
}

/** Reads at most BTF_TYPE_ID_MAX types: the kernel checks further ones and then ignores them. */
function readTypes(blob: Buffer, start: number, length: number, strLen: number): Types | Refusal {
  const end = start + length;
  const room = Math.min(BTF_TYPE_ID_MAX, 1 + Math.floor(length / TYPE_BYTES));
  const types = {
    at: new Uint32Array(room),
    kind: new Uint8Array(room),
    vlen: new Uint16Array(room),
    kindFlag: new Uint8Array(room),
    sizeOrType: new Uint32Array(room),
  };
  let id = 1;
  for (let at = start; at < end && id < BTF_TYPE_ID_MAX; id++) {
    if (at + TYPE_BYTES > end) return refuse("EINVAL", "BTF's types end in the middle of one");
    const info = blob.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const rest = REST[kind];
    if (rest === undefined || blob.readUInt32LE(at) >= strLen)
      return refuse("EINVAL", `BTF's type ${id} has an unknown kind or name`);
    types.at[id] = at;
    types.kind[id] = kind;
    types.vlen[id] = info & 0xffff;
    types.kindFlag[id] = info >>> 31;
    types.sizeOrType[id] = blob.readUInt32LE(at + 8);
    at += TYPE_BYTES + rest[0] + rest[1] * (info & 0xffff);
    if (at > end) return refuse("EINVAL", "BTF's types end in the middle of one");
  }
  return {
    count: id,
    at: types.at.subarray(0, id),
    kind: types.kind.subarray(0, id),
    vlen: types.vlen.subarray(0, id),
    kindFlag: types.kindFlag.subarray(0, id),
    sizeOrType: types.sizeOrType.subarray(0, id),
  };
}
