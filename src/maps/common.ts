/** Checks, defaults and cell prefixes that many map types share. */

import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { type CellKey, u32Key } from "./cells.ts";
import type { BatchWalk, CreateAttr, Element, Host, MapRecord, MapSizes, MapType } from "./map.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

/** The first byte of the cells of elements. Cells with other first bytes are tables of src/syscall. */
export const ELEMENT_TABLE = "e";

/** The first byte of the cells that keep the order in which a map's elements were used. */
const USE_TABLE = "u";

/** One byte for the table, four for the map's id. */
export const ELEMENT_PREFIX_BYTES = 5;

/** The prefix of all cells of a map's elements. */
export function elementsPrefix(map: Pick<MapRecord, "id">): CellKey {
  return ELEMENT_TABLE + u32Key(map.id);
}

/** Writes that prefix to the beginning of `target`. */
export function writeElementsPrefix(map: Pick<MapRecord, "id">, target: Buffer): void {
  target[0] = ELEMENT_TABLE.charCodeAt(0);
  target.writeUInt32BE(map.id, 1);
}

/** The prefix of all cells of a map's uses. */
export function usesPrefix(map: Pick<MapRecord, "id">): CellKey {
  return USE_TABLE + u32Key(map.id);
}

/** Flags that limit the access by descriptors. */
export const ACCESS_FLAGS = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY;
/** Flags that limit the access by programs. */
export const PROG_FLAGS = BPF_F.BPF_F_RDONLY_PROG | BPF_F.BPF_F_WRONLY_PROG;

/**
 * Refuses map_flags that a type does not know, and contradictory ones: bpf_map_flags_access_ok(), include/linux/bpf.h.
 */
export function checkFlags(attr: CreateAttr, known: number, whose: string): Refusal | null {
  if ((attr.mapFlags & ~known) !== 0)
    return refuse("EINVAL", `map_flags ${hex(attr.mapFlags)}: ${hex(attr.mapFlags & ~known)} not among ${whose} flags`);
  if ((attr.mapFlags & PROG_FLAGS) === PROG_FLAGS)
    return refuse("EINVAL", "BPF_F_RDONLY_PROG excludes BPF_F_WRONLY_PROG");
  return null;
}

function hex(flags: number): string {
  return `0x${(flags >>> 0).toString(16)}`;
}

export function checkKeySize(attr: CreateAttr, size: number): Refusal | null {
  return attr.keySize === size
    ? null
    : refuse("EINVAL", `key_size is ${attr.keySize}: ${size} required for this map type`);
}

export function checkValueSize(attr: CreateAttr, ...sizes: readonly number[]): Refusal | null {
  if (sizes.includes(attr.valueSize)) return null;
  return refuse("EINVAL", `value_size is ${attr.valueSize}: ${sizes.join(" or ")} required for this map type`);
}

export function checkEntries(attr: CreateAttr): Refusal | null {
  return attr.maxEntries === 0 ? refuse("EINVAL", "max_entries is 0") : null;
}

/** For types whose number of elements has no limit: max_entries must be 0. */
export function checkNoEntries(attr: CreateAttr): Refusal | null {
  return attr.maxEntries === 0
    ? null
    : refuse("EINVAL", `max_entries is ${attr.maxEntries}: 0 required for this map type`);
}

/** Checks an update's flags; BPF_F_LOCK was checked and removed before. */
export function checkUpdateFlags(flags: bigint): Refusal | null {
  return flags > BPF_ELEM.BPF_EXIST
    ? refuse("EINVAL", `flags ${flags}: BPF_ANY, BPF_NOEXIST or BPF_EXIST required`)
    : null;
}

/** map_check_no_btf(), kernel/bpf/syscall.c. */
export const noBtf = refused("ENOTSUPP", "BTF is not allowed for this map type");

const END = refuse("ENOENT", "no key follows this one");

/**
 * Lookup batches by key: generic_map_lookup_batch(), kernel/bpf/syscall.c. The position is the last key visited; keys
 * without a value (ENOENT) are skipped. A batch of `count` elements succeeds even if there are no more: the next one is
 * ENOENT.
 */
export function byKeys(type: Pick<MapType, "nextKey" | "lookup">): BatchWalk {
  return {
    checksFlags: false,
    positionAlways: false,

    positionBytes(map) {
      return map.keySize;
    },

    read(store, position, count) {
      const elements: Element[] = [];
      let last = position;
      while (elements.length < count) {
        const key = type.nextKey(store, last);
        if (!Buffer.isBuffer(key))
          return { elements, bucketEnds: [], position: last, end: key.errno === "ENOENT" ? END : key };
        const value = type.lookup(store, key);
        if (Buffer.isBuffer(value)) elements.push({ key, value });
        else if (value.errno !== "ENOENT") return value;
        last = key;
      }
      return { elements, bucketEnds: [], position: last, end: null };
    },
  };
}

const NO_BATCH = refuse("ENOTSUPP", "this batch command is not allowed for this map type");

/** For types without batches. */
export const NO_BATCHES: MapType["batch"] = {
  lookup: NO_BATCH,
  lookupAndDelete: NO_BATCH,
  update: NO_BATCH,
  delete: NO_BATCH,
};

/** For types without lookup-and-delete. */
export const noLookupAndDelete = refused("ENOTSUPP", "BPF_MAP_LOOKUP_AND_DELETE_ELEM is not allowed for this map type");

/** The defaults for a type's row; each row adds its own functions and facts. */
export const USUAL = {
  checkBtf: null,
  recorded: (): Partial<MapRecord> => ({}),
  allocatedBytes: (): number => 0,
  preallocated: (): boolean => true,
  elementBytes: (): number => 0,
  valueBytes: (map: MapSizes): number => map.valueSize,
  release: null,
  free: null,
} as const satisfies Partial<MapType>;

/** The value as it is stored: special fields, which only programs access, become zeros. */
export function keptValue(map: Pick<MapRecord, "special">, value: Buffer): Buffer {
  if (map.special.length === 0) return value;
  const kept = Buffer.from(value);
  for (const { offset, size } of map.special) kept.fill(0, offset, offset + size);
  return kept;
}

/** Rounds up to 8 bytes, as the kernel does for values and for each CPU's slot. */
export function roundUp8(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

/** The smallest power of two that is not less than `number`, which is 1 or more. */
export function powerOf2(number: number): number {
  return 2 ** Math.ceil(Math.log2(number));
}

/** The size in user space of a per-CPU value: one slot for each possible CPU. */
export function perCpuBytes(map: MapSizes, host: Host): number {
  return roundUp8(map.valueSize) * host.possibleCpus;
}

export function u32Buffer(...numbers: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 * numbers.length);
  numbers.forEach((number, at) => {
    bytes.writeUInt32LE(number >>> 0, at * 4);
  });
  return bytes;
}
