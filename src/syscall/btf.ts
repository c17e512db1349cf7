import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { BTF_KIND } from "../maps/btf_types.ts";
import type { BtfType, SpecialField, SpecialKind } from "../maps/map.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";

/**
 * BTF as far as maps need it: the sizes of types, and the fields in values that only programs touch. Source:
 * kernel/bpf/btf.c, <linux/btf.h>. Everything is little-endian.
 *
 *     header    0 u16 magic   2 u8 version   3 u8 flags    4 u32 hdr_len
 *               8 u32 type_off  12 u32 type_len  16 u32 str_off  20 u32 str_len     offsets behind the header
 *     type      0 u32 name    4 u32 info (vlen, kind << 24, kind_flag << 31)   8 u32 size or type, then what the kind has
 */
const MAGIC = 0xeb9f;
const VERSION = 1;
const HEADER_BYTES = 24;
const TYPE_BYTES = 12;
const POINTER_BYTES = 8;
const TYPES_MAX = 1_000_000;
/** Typedefs and modifiers on each other, and arrays of arrays: MAX_RESOLVE_DEPTH. */
const DEPTH_MAX = 32;

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
const MODIFIERS: ReadonlySet<number> = new Set([
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

/** A blob whose header and types are well-formed. */
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

  /** btf_type_id_size(): the type that a map's keys or values are of; undefined where it has no size. */
  type(id: number): BtfType | undefined {
    return this.#sized(id, 0);
  }

  #sized(id: number, depth: number): BtfType | undefined {
    const raw = this.#types[id];
    if (raw === undefined || id === 0 || depth > DEPTH_MAX) return undefined;
    if (MODIFIERS.has(raw.kind)) return this.#sized(raw.sizeOrType, depth + 1);
    const plain = { id, kind: raw.kind, bits: 0, members: [] };
    if (raw.kind === BTF_KIND.PTR) return { ...plain, size: POINTER_BYTES };
    if (raw.kind === BTF_KIND.ARRAY) {
      const element = this.#sized(this.#blob.readUInt32LE(raw.at + TYPE_BYTES), depth + 1);
      const count = this.#blob.readUInt32LE(raw.at + TYPE_BYTES + 8);
      return element === undefined ? undefined : { ...plain, size: element.size * count };
    }
    if (!SIZED.has(raw.kind)) return undefined;
    const bits = raw.kind === BTF_KIND.INT ? this.#blob.readUInt32LE(raw.at + TYPE_BYTES) & 0xff : 0;
    return { ...plain, size: raw.sizeOrType, bits, members: this.#members(raw, depth) };
  }

  #members(raw: RawType, depth: number): BtfType["members"] {
    if (raw.kind !== BTF_KIND.STRUCT) return [];
    return this.#fields(raw).map(({ type, offsetBits }) => ({ type: this.#sized(type, depth + 1), offsetBits }));
  }

  #fields(raw: RawType): { readonly type: number; readonly offsetBits: number }[] {
    return Array.from({ length: raw.vlen }, (_, at) => {
      const member = raw.at + TYPE_BYTES + at * 12;
      const offset = this.#blob.readUInt32LE(member + 8);
      return { type: this.#blob.readUInt32LE(member + 4), offsetBits: raw.kindFlag ? offset & 0xffffff : offset };
    });
  }

  /** btf_parse_fields(): what only programs touch in a value of this type, in nested structs and arrays, too. */
  specialFields(id: number): readonly SpecialField[] | Refusal {
    const found: SpecialField[] = [];
    const refusal = this.#collect(id, 0, 0, found);
    if (refusal !== null) return refusal;
    return found.sort((a, b) => a.offset - b.offset);
  }

  #collect(id: number, base: number, depth: number, found: SpecialField[]): Refusal | null {
    const raw = this.#types[id];
    if (raw?.kind !== BTF_KIND.STRUCT || depth > DEPTH_MAX) return null;
    for (const { type, offsetBits } of this.#fields(raw)) {
      const offset = base + offsetBits / 8;
      const name = this.#structName(type);
      if (name === null) {
        const refusal = this.#collect(type, offset, depth + 1, found);
        if (refusal !== null) return refusal;
        continue;
      }
      const { size, align, unique } = SPECIAL[name];
      if (this.#types[type]?.sizeOrType !== size) continue;
      if (!Number.isInteger(offset) || offset % align !== 0)
        return refuse("EINVAL", `${name} at ${offset}: not a multiple of ${align}`);
      if (unique && found.some(({ kind }) => kind === name))
        return refuse("E2BIG", `the value has more than one ${name}`);
      found.push({ kind: name, offset, size });
    }
    return null;
  }

  #structName(id: number): SpecialKind | null {
    const raw = this.#types[id];
    if (raw?.kind !== BTF_KIND.STRUCT) return null;
    const start = this.#blob.readUInt32LE(raw.at);
    const name = this.#strings.toString("latin1", start, this.#strings.indexOf(0, start));
    return Object.hasOwn(SPECIAL, name) ? (name as SpecialKind) : null;
  }
}

function readTypes(blob: Buffer, start: number, length: number, strLen: number): RawType[] | Refusal {
  // Id 0 is void.
  const types: RawType[] = [{ at: 0, kind: 0, vlen: 0, kindFlag: false, sizeOrType: 0 }];
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

const DATA_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
]);
const LOCKED_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CGROUP_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_SK_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_INODE_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_TASK_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CGRP_STORAGE,
]);

/** Sizes in <linux/bpf.h>; whether a value may have one only; in values of which map types: map_check_btf(). */
const SPECIAL: Readonly<
  Record<SpecialKind, { size: number; align: number; unique: boolean; types: ReadonlySet<number> }>
> = {
  bpf_spin_lock: { size: 4, align: 4, unique: true, types: LOCKED_TYPES },
  bpf_res_spin_lock: { size: 4, align: 4, unique: true, types: LOCKED_TYPES },
  bpf_timer: { size: 16, align: 8, unique: true, types: DATA_TYPES },
  bpf_wq: { size: 16, align: 8, unique: true, types: DATA_TYPES },
  bpf_task_work: { size: 8, align: 8, unique: true, types: DATA_TYPES },
};

/** EOPNOTSUPP where a map of this type cannot have one of these fields. */
export function checkSpecial(mapType: number, fields: readonly SpecialField[]): Refusal | null {
  const wrong = fields.find(({ kind }) => !SPECIAL[kind].types.has(mapType));
  return wrong === undefined ? null : refuse("EOPNOTSUPP", `values of this map type cannot have a ${wrong.kind}`);
}
