/** Checks each type by itself, without the types it refers to: btf_check_all_metas(), kernel/bpf/btf.c. */

import { BTF_KIND, BTF_TYPE_ID_MAX, REST } from "../maps/btf_types.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { Header } from "./header.ts";
import type { Names } from "./names.ts";

const TYPE_BYTES = 12;
/** The bits outside of BTF_INFO_MASK, which has vlen, kind and kind_flag. */
const INFO_UNUSED = ~0x9f00ffff;
/** The bits outside of BTF_INT_MASK, which has encoding << 24, offset << 16 and bits. */
const INT_UNUSED = ~0x0fffffff;
/** No encoding, BTF_INT_SIGNED, BTF_INT_CHAR, BTF_INT_BOOL. */
const ENCODINGS: ReadonlySet<number> = new Set([0, 1, 2, 4]);
const INT_BITS_MAX = 128;
const ENUM_SIZES: ReadonlySet<number> = new Set([1, 2, 4, 8]);
const FLOAT_SIZES: ReadonlySet<number> = new Set([2, 4, 8, 12, 16]);
/** BTF_FUNC_GLOBAL and BTF_VAR_GLOBAL_ALLOCATED are 1, the static ones 0. Linkage 2 (extern) is for linkers only. */
const LINKAGE_MAX = 1;
/** The component_idx of a tag for a whole type. */
const WHOLE = -1;

/** struct btf_type. `rest`: the offset of the fields that follow it. */
interface Type {
  readonly name: number;
  readonly vlen: number;
  readonly kindFlag: boolean;
  readonly sizeOrType: number;
  readonly rest: number;
}

/**
 * Checks a type. Returns null if it is valid, otherwise a refusal; a text stands for EINVAL, and continues "BTF's type
 * 7 ...".
 */
type Rule = (type: Type, blob: Buffer, names: Names) => string | Refusal | null;

const reference: Rule = (type) => bare(type) ?? (type.name !== 0 ? NAMED : target(type));
const enumeration =
  (valueBytes: number): Rule =>
  (type, blob, names) => {
    if (!ENUM_SIZES.has(type.sizeOrType)) return `is an enumeration of ${type.sizeOrType} bytes (1, 2, 4 or 8 allowed)`;
    if (!isNameOrNone(type.name, names)) return MISNAMED;
    for (let at = 0; at < type.vlen; at++)
      if (!isName(blob.readUInt32LE(type.rest + at * valueBytes), names))
        return `is an enumeration whose value ${at} has no valid name`;
    return null;
  };
const composite =
  (isUnion: boolean): Rule =>
  (type, blob, names) =>
    isNameOrNone(type.name, names) ? members(type, { blob, names, isUnion }) : MISNAMED;

const MISNAMED = "has no valid name";
const NAMED = "has a name, which its kind does not allow";

const RULES: Readonly<Record<number, Rule>> = {
  [BTF_KIND.INT]: (type, blob) => bare(type) ?? integer(type, blob.readUInt32LE(type.rest)),
  [BTF_KIND.PTR]: reference,
  [BTF_KIND.ARRAY]: (type, blob) => {
    if (type.name !== 0) return NAMED;
    if (type.sizeOrType !== 0) return "is an array whose size field is not 0";
    return bare(type) ?? part(blob.readUInt32LE(type.rest)) ?? part(blob.readUInt32LE(type.rest + 4));
  },
  [BTF_KIND.STRUCT]: composite(false),
  [BTF_KIND.UNION]: composite(true),
  [BTF_KIND.ENUM]: enumeration(8),
  [BTF_KIND.FWD]: ({ name, vlen, sizeOrType }, _, names) => {
    if (vlen !== 0 || sizeOrType !== 0) return "is a forward declaration with more than a name";
    return isName(name, names) ? null : MISNAMED;
  },
  [BTF_KIND.TYPEDEF]: (type, _, names) => bare(type) ?? target(type) ?? (isName(type.name, names) ? null : MISNAMED),
  [BTF_KIND.VOLATILE]: reference,
  [BTF_KIND.CONST]: reference,
  [BTF_KIND.RESTRICT]: reference,
  [BTF_KIND.FUNC]: ({ name, vlen, kindFlag }, _, names) => {
    if (!isName(name, names)) return MISNAMED;
    return vlen > LINKAGE_MAX || kindFlag ? `has linkage ${vlen} (0 or ${LINKAGE_MAX} allowed), or a kind_flag` : null;
  },
  [BTF_KIND.FUNC_PROTO]: ({ name, kindFlag }) => (name !== 0 || kindFlag ? NAMED : null),
  [BTF_KIND.VAR]: (type, blob, names) => {
    if (!isName(type.name, names)) return MISNAMED;
    const linkage = blob.readUInt32LE(type.rest);
    return (
      bare(type) ??
      part(type.sizeOrType) ??
      (linkage > LINKAGE_MAX ? `has linkage ${linkage} (0 or ${LINKAGE_MAX} allowed)` : null)
    );
  },
  [BTF_KIND.DATASEC]: (type, blob, names) => {
    if (type.sizeOrType === 0) return "is a section of 0 bytes (in an object file it has no size yet: libbpf sets it)";
    if (type.kindFlag || type.name === 0 || !names.isSection(type.name)) return MISNAMED;
    return variables(type, blob);
  },
  [BTF_KIND.FLOAT]: (type) =>
    bare(type) ?? (FLOAT_SIZES.has(type.sizeOrType) ? null : `is a float of ${type.sizeOrType} bytes`),
  [BTF_KIND.DECL_TAG]: ({ name, vlen, rest }, blob, names) => {
    if (vlen !== 0 || names.isEmpty(name)) return "is a tag without a text, or with a vlen";
    const component = blob.readInt32LE(rest);
    return component < WHOLE ? `is a tag of component ${component} (${WHOLE} or more allowed)` : null;
  },
  [BTF_KIND.TYPE_TAG]: (type, _, names) =>
    bare({ ...type, kindFlag: false }) ?? target(type) ?? (names.isEmpty(type.name) ? "is a tag without a text" : null),
  [BTF_KIND.ENUM64]: enumeration(12),
};

/**
 * Checks types in the order of the blob, up to the first that is invalid. EINVAL, but ENOTSUPP for an integer with an
 * unknown encoding.
 */
export function checkMetas(blob: Buffer, { headerBytes, typeOff, typeLen }: Header, names: Names): Refusal | null {
  const end = headerBytes + typeOff + typeLen;
  for (let [at, id] = [headerBytes + typeOff, 1]; at < end; id++) {
    if (at + TYPE_BYTES > end) return refuse("EINVAL", `BTF's types end in the middle of type ${id}`);
    const info = blob.readUInt32LE(at + 4);
    const [name, kind, vlen] = [blob.readUInt32LE(at), (info >>> 24) & 0x1f, info & 0xffff];
    const bytes = REST[kind];
    if ((info & INFO_UNUSED) !== 0 || bytes === undefined || !names.has(name))
      return refuse("EINVAL", `BTF's type ${id} has an unknown kind or name`);
    const rest = at + TYPE_BYTES;
    at = rest + bytes[0] + bytes[1] * vlen;
    if (at > end) return refuse("EINVAL", `BTF's types end in the middle of type ${id}`);
    const type = { name, vlen, kindFlag: info >>> 31 === 1, sizeOrType: blob.readUInt32LE(rest - 4), rest };
    const wrong = (RULES[kind] as Rule)(type, blob, names);
    if (typeof wrong === "string") return refuse("EINVAL", `BTF's type ${id} ${wrong}`);
    if (wrong !== null) return wrong;
  }
  return null;
}

function isName(name: number, names: Names): boolean {
  return name !== 0 && names.has(name) && names.isIdentifier(name);
}

function isNameOrNone(name: number, names: Names): boolean {
  return name === 0 || isName(name, names);
}

/** Refuses vlen and kind_flag other than 0. */
function bare({ vlen, kindFlag }: Type): string | null {
  return vlen !== 0 || kindFlag ? "has a vlen or kind_flag, which its kind does not allow" : null;
}

function target({ sizeOrType }: Type): string | null {
  return sizeOrType > BTF_TYPE_ID_MAX ? `refers to type ${sizeOrType} (limit ${BTF_TYPE_ID_MAX})` : null;
}

/** Refuses void as a part of another type. */
function part(type: number): string | null {
  return type === 0 || type > BTF_TYPE_ID_MAX ? `has a part of type ${type} (1 to ${BTF_TYPE_ID_MAX} allowed)` : null;
}

function integer({ sizeOrType }: Type, word: number): string | Refusal | null {
  const [encoding, bits] = [word >>> 24, (word & 0xff) + ((word >>> 16) & 0xff)];
  if ((word & INT_UNUSED) !== 0 || bits > INT_BITS_MAX || Math.ceil(bits / 8) > sizeOrType)
    return `is an integer of ${bits} bits in ${sizeOrType} bytes`;
  return ENCODINGS.has(encoding) ? null : refuse("ENOTSUPP", `BTF has an integer of encoding ${encoding}`);
}

/** The offsets of a struct's members must not decrease; those of a union must be 0. */
function members(
  { vlen, kindFlag, sizeOrType, rest }: Type,
  { blob, names, isUnion }: { blob: Buffer; names: Names; isUnion: boolean },
): string | null {
  let last = 0;
  for (let at = 0; at < vlen; at++) {
    const member = rest + at * 12;
    if (!isNameOrNone(blob.readUInt32LE(member), names)) return `has a member ${at} without a valid name`;
    const wrong = part(blob.readUInt32LE(member + 4));
    if (wrong !== null) return wrong;
    const word = blob.readUInt32LE(member + 8);
    const offsetBits = kindFlag ? word & 0xffffff : word;
    if ((isUnion && offsetBits !== 0) || offsetBits < last || Math.ceil(offsetBits / 8) > sizeOrType)
      return `has a member at bit ${offsetBits} (${isUnion ? 0 : `${last} to ${8 * sizeOrType}`} allowed)`;
    last = offsetBits;
  }
  return null;
}

/** Variables must be in the order of their offsets and must not overlap. The kernel computes their ends modulo 2^32. */
function variables({ vlen, sizeOrType, rest }: Type, blob: Buffer): string | null {
  let [last, sum] = [0, 0];
  for (let at = 0; at < vlen; at++) {
    const variable = rest + at * 12;
    const wrong = part(blob.readUInt32LE(variable));
    if (wrong !== null) return wrong;
    const [offset, size] = [blob.readUInt32LE(variable + 4), blob.readUInt32LE(variable + 8)];
    if (offset < last || offset >= sizeOrType || size === 0 || size > sizeOrType)
      return `has a variable of ${size} bytes at ${offset}`;
    last = (offset + size) >>> 0;
    sum += size;
    if (last > sizeOrType) return `has a variable that ends at ${last}`;
  }
  return sum > sizeOrType ? `has ${sum} bytes of variables in ${sizeOrType}` : null;
}
