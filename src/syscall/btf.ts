import { BTF_KIND } from "../maps/btf_types.ts";
import type { BtfType } from "../maps/map.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";

/**
 * BTF as far as maps need it: types, their sizes, their members. Source: kernel/bpf/btf.c, <linux/btf.h>. Everything is
 * little-endian.
 *
 *     header    0 u16 magic   2 u8 version   3 u8 flags    4 u32 hdr_len
 *               8 u32 type_off  12 u32 type_len  16 u32 str_off  20 u32 str_len     offsets behind the header
 *     type      0 u32 name    4 u32 info (vlen, kind << 24, kind_flag << 31)   8 u32 size or type, then what the kind has
 */
const MAGIC = 0xeb9f;
const VERSION = 1;
const HEADER_BYTES = 24;
const TYPE_BYTES = 12;
const MEMBER_BYTES = 12;
const VOID = 0;
const POINTER_BYTES = 8;
const TYPES_MAX = 1_000_000;
/** More than any name that is looked for. */
const NAME_BYTES_MAX = 32;

/** Bytes behind struct btf_type, a kind: once, and for each of vlen. */
const REST: Readonly<Record<number, readonly [once: number, each: number]>> = {
  [BTF_KIND.INT]: [4, 0],
  [BTF_KIND.PTR]: [0, 0],
  [BTF_KIND.ARRAY]: [12, 0],
  [BTF_KIND.STRUCT]: [0, 12],
  [BTF_KIND.UNION]: [0, 12],
  [BTF_KIND.ENUM]: [0, 8],
  [BTF_KIND.FWD]: [0, 0],
  [BTF_KIND.TYPEDEF]: [0, 0],
  [BTF_KIND.VOLATILE]: [0, 0],
  [BTF_KIND.CONST]: [0, 0],
  [BTF_KIND.RESTRICT]: [0, 0],
  [BTF_KIND.FUNC]: [0, 0],
  [BTF_KIND.FUNC_PROTO]: [0, 8],
  [BTF_KIND.VAR]: [4, 0],
  [BTF_KIND.DATASEC]: [0, 12],
  [BTF_KIND.FLOAT]: [0, 0],
  [BTF_KIND.DECL_TAG]: [4, 0],
  [BTF_KIND.TYPE_TAG]: [0, 0],
  [BTF_KIND.ENUM64]: [0, 12],
};

const SIZED: ReadonlySet<number> = new Set([
  BTF_KIND.INT,
  BTF_KIND.STRUCT,
  BTF_KIND.UNION,
  BTF_KIND.ENUM,
  BTF_KIND.ENUM64,
  BTF_KIND.DATASEC,
  BTF_KIND.FLOAT,
]);
export const MODIFIERS: ReadonlySet<number> = new Set([
  BTF_KIND.TYPEDEF,
  BTF_KIND.VOLATILE,
  BTF_KIND.CONST,
  BTF_KIND.RESTRICT,
  BTF_KIND.TYPE_TAG,
  BTF_KIND.VAR,
]);

/** struct btf_type with where it stands. */
interface RawType {
  readonly at: number;
  readonly kind: number;
  readonly vlen: number;
  readonly kindFlag: boolean;
  readonly sizeOrType: number;
}

/** A member of a struct or union. */
interface Field {
  readonly type: number;
  readonly offsetBits: number;
  /** 0: it is none. */
  readonly bitfieldBits: number;
}

/** A blob whose header and types are well-formed. Ids go from 0, which is void, to below `count`. */
export class Btf {
  readonly #blob: Buffer;
  readonly #types: readonly RawType[];
  readonly #strings: Buffer;

  private constructor(blob: Buffer, types: readonly RawType[], strings: Buffer) {
    this.#blob = blob;
    this.#types = types;
    this.#strings = strings;
  }

  /** btf_parse(): EINVAL for what is no BTF, ENOTSUPP for a version or flags of another time. */
  static parse(blob: Buffer): Btf | Refusal {
    if (blob.length < HEADER_BYTES)
      return refuse("EINVAL", `BTF has ${blob.length} bytes: its header takes ${HEADER_BYTES}`);
    if (blob.readUInt16LE(0) !== MAGIC) return refuse("EINVAL", "BTF does not begin with its magic");
    if (blob[2] !== VERSION) return refuse("ENOTSUPP", `BTF of version ${blob[2]}: ${VERSION} is known`);
    if (blob[3] !== 0) return refuse("ENOTSUPP", "BTF has flags: none are known");
    const headerBytes = blob.readUInt32LE(4);
    const [typeOff, typeLen, strOff, strLen] = [8, 12, 16, 20].map((at) => blob.readUInt32LE(at)) as [
      number,
      number,
      number,
      number,
    ];
    const whole = headerBytes + Math.max(typeOff + typeLen, strOff + strLen);
    if (headerBytes < HEADER_BYTES || typeLen === 0 || typeLen % 4 !== 0 || whole !== blob.length)
      return refuse("EINVAL", "BTF's sections do not make up the whole of it");
    const strings = blob.subarray(headerBytes + strOff, headerBytes + strOff + strLen);
    if (strLen === 0 || strings[0] !== 0 || strings[strLen - 1] !== 0)
      return refuse("EINVAL", "BTF's strings do not begin and end with NUL");
    const types = readTypes(blob, headerBytes + typeOff, typeLen, strLen);
    return Array.isArray(types) ? new Btf(blob, types, strings) : (types as Refusal);
  }

  get count(): number {
    return this.#types.length;
  }

  /** undefined: there is no such type. */
  kind(id: number): number | undefined {
    return this.#types[id]?.kind;
  }

  /** The beginning of its name. */
  name(id: number): string {
    const raw = this.#types[id];
    if (raw === undefined || raw.kind === VOID) return "";
    const start = this.#blob.readUInt32LE(raw.at);
    const beginning = this.#strings.subarray(start, start + NAME_BYTES_MAX);
    const end = beginning.indexOf(0);
    return beginning.toString("latin1", 0, end === -1 ? undefined : end);
  }

  /** What a modifier or a pointer is of. */
  target(id: number): number {
    return this.#types[id]?.sizeOrType ?? 0;
  }

  /** The types of an array's elements and of its index, and how many elements it has. */
  array(id: number): { readonly element: number; readonly index: number; readonly count: number } {
    const at = (this.#types[id] as RawType).at + TYPE_BYTES;
    const [element, index, count] = [0, 4, 8].map((offset) => this.#blob.readUInt32LE(at + offset)) as [
      number,
      number,
      number,
    ];
    return { element, index, count };
  }

  /** Members of a struct or union, in their order; variables of a data section. */
  fields(id: number): readonly Field[] {
    const raw = this.#types[id] as RawType;
    return Array.from({ length: raw.vlen }, (_, at) => {
      const member = raw.at + TYPE_BYTES + at * MEMBER_BYTES;
      const offset = this.#blob.readUInt32LE(member + 8);
      return {
        type: this.#blob.readUInt32LE(member + 4),
        offsetBits: raw.kindFlag ? offset & 0xffffff : offset,
        bitfieldBits: raw.kindFlag ? offset >>> 24 : 0,
      };
    });
  }

  /** btf_type_id_size(): the type that a map's keys or values are of; undefined where it has no size. */
  type(id: number): BtfType | undefined {
    const type = this.#sized(id);
    if (type?.kind !== BTF_KIND.STRUCT) return type;
    const members = this.fields(type.id).map(({ type, offsetBits }) => ({ type: this.#sized(type), offsetBits }));
    return { ...type, members };
  }

  /** Without its members. */
  #sized(id: number): BtfType | undefined {
    const type = this.#unmodified(id);
    let [base, count] = [type, 1];
    for (let depth = 0; this.kind(base) === BTF_KIND.ARRAY && depth < this.count; depth++) {
      const { element, count: times } = this.array(base);
      [base, count] = [this.#unmodified(element), count * times];
    }
    const each = this.#bytes(base);
    if (each === undefined) return undefined;
    const { kind, at } = this.#types[type] as RawType;
    const bits = kind === BTF_KIND.INT ? this.#blob.readUInt32LE(at + TYPE_BYTES) & 0xff : 0;
    return { id: type, kind, size: each * count, bits, members: [] };
  }

  #bytes(id: number): number | undefined {
    const raw = this.#types[id];
    if (raw?.kind === BTF_KIND.PTR) return POINTER_BYTES;
    return raw !== undefined && SIZED.has(raw.kind) ? raw.sizeOrType : undefined;
  }

  /** A type without its names and modifiers, as many as there may be. */
  #unmodified(id: number): number {
    let plain = id;
    for (let depth = 0; MODIFIERS.has(this.kind(plain) ?? VOID) && depth < this.count; depth++)
      plain = this.target(plain);
    return plain;
  }
}

function readTypes(blob: Buffer, start: number, length: number, strLen: number): RawType[] | Refusal {
  // Id 0 is void.
  const types: RawType[] = [{ at: 0, kind: VOID, vlen: 0, kindFlag: false, sizeOrType: 0 }];
  const end = start + length;
  for (let at = start; at < end; ) {
    if (at + TYPE_BYTES > end || types.length > TYPES_MAX)
      return refuse("EINVAL", "BTF's types end in the middle of one");
    const info = blob.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const rest = REST[kind];
    if (rest === undefined || blob.readUInt32LE(at) >= strLen)
      return refuse("EINVAL", `BTF's type ${types.length} has an unknown kind or name`);
    const vlen = info & 0xffff;
    types.push({ at, kind, vlen, kindFlag: info >>> 31 === 1, sizeOrType: blob.readUInt32LE(at + 8) });
    at += TYPE_BYTES + rest[0] + rest[1] * vlen;
    if (at > end) return refuse("EINVAL", "BTF's types end in the middle of one");
  }
  return types;
}
