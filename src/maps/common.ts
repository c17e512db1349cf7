import { BPF_F } from "../abi/bpf.ts";
import { type CellKey, u32Key } from "./cells.ts";
import type { BatchWalk, CreateAttr, Element, Host, MapRecord, MapSizes, MapType } from "./map.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

/** The first byte of every cell that holds an element; the others are the syscall ring's tables. */
const ELEMENT_TABLE = "e";

/** The first byte of cells that tell in which order a map's elements were used. */
const USE_TABLE = "u";

/** The table's letter and the map's id. */
export const ELEMENT_PREFIX_BYTES = 5;

/** What the keys of a map's element cells begin with. */
export function elementsPrefix(map: Pick<MapRecord, "id">): CellKey {
  return ELEMENT_TABLE + u32Key(map.id);
}

/** The same as bytes, at the beginning of a key that is put together there. */
export function writeElementsPrefix(map: Pick<MapRecord, "id">, target: Buffer): void {
  target[0] = ELEMENT_TABLE.charCodeAt(0);
  target.writeUInt32BE(map.id, 1);
}

/** What the keys of a map's cells of uses begin with. */
export function usesPrefix(map: Pick<MapRecord, "id">): CellKey {
  return USE_TABLE + u32Key(map.id);
}

/** Flags that are a caller's choice of access in any type that has it. */
export const ACCESS_FLAGS = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY;
/** And those that limit programs. */
export const PROG_FLAGS = BPF_F.BPF_F_RDONLY_PROG | BPF_F.BPF_F_WRONLY_PROG;

/** map_flags that a type does not know are EINVAL; and bpf_map_flags_access_ok(), include/linux/bpf.h. */
export function checkFlags(attr: CreateAttr, known: number, whose: string): Refusal | null {
  if ((attr.mapFlags & ~known) !== 0)
    return refuse("EINVAL", `map_flags ${attr.mapFlags}: not all of them are ${whose}`);
  if ((attr.mapFlags & PROG_FLAGS) === PROG_FLAGS)
    return refuse("EINVAL", "BPF_F_RDONLY_PROG excludes BPF_F_WRONLY_PROG");
  return null;
}

export function checkKeySize(attr: CreateAttr, size: number): Refusal | null {
  return attr.keySize === size ? null : refuse("EINVAL", `key_size is ${attr.keySize}: this type's is ${size}`);
}

export function checkValueSize(attr: CreateAttr, ...sizes: readonly number[]): Refusal | null {
  if (sizes.includes(attr.valueSize)) return null;
  return refuse("EINVAL", `value_size is ${attr.valueSize}: this type's is ${sizes.join(" or ")}`);
}

export function checkEntries(attr: CreateAttr): Refusal | null {
  return attr.maxEntries === 0 ? refuse("EINVAL", "max_entries is 0") : null;
}

/** For types whose elements come and go by themselves. */
export function checkNoEntries(attr: CreateAttr): Refusal | null {
  return attr.maxEntries === 0 ? null : refuse("EINVAL", `max_entries is ${attr.maxEntries}: this type's is 0`);
}

/** An update's flags beside BPF_F_LOCK, which has been checked: one of three. */
export function checkUpdateFlags(flags: bigint): Refusal | null {
  return flags > 2n ? refuse("EINVAL", `flags ${flags}: BPF_ANY, BPF_NOEXIST or BPF_EXIST is needed`) : null;
}

/** map_check_no_btf(), kernel/bpf/syscall.c. */
export const noBtf = refused("ENOTSUPP", "this type takes no BTF");

const END = refuse("ENOENT", "the keys end here");

/**
 * Lookup batches by key: generic_map_lookup_batch(), kernel/bpf/syscall.c. The position is the last key visited; keys
 * without a value (ENOENT) are skipped. To have delivered `count` elements is success even if they were the last.
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

const NO_BATCH = refuse("ENOTSUPP", "this type has no such batch");

/** For rows of types that have no batches. */
export const NO_BATCHES: MapType["batch"] = {
  lookup: NO_BATCH,
  lookupAndDelete: NO_BATCH,
  update: NO_BATCH,
  delete: NO_BATCH,
};

/** For rows of types that nothing can be taken out of. */
export const noTake = refused("ENOTSUPP", "this type has no lookup-and-delete");

/** What most types do; each row says what is its own, and its facts. */
export const USUAL = {
  checkBtf: null,
  recorded: (): Partial<MapRecord> => ({}),
  allocatedBytes: (): number => 0,
  preallocated: (): boolean => true,
  elementBytes: (): number => 0,
  valueBytes: (map: MapSizes): number => map.valueSize,
  fileClosed: null,
  freed: null,
} as const satisfies Partial<MapType>;

/** A value as it is kept: fields that only programs touch are not copied in, and read as zeros. */
export function keptValue(map: Pick<MapRecord, "special">, value: Buffer): Buffer {
  if (map.special.length === 0) return value;
  const kept = Buffer.from(value);
  for (const { offset, size } of map.special) kept.fill(0, offset, offset + size);
  return kept;
}

/** A value as the kernel keeps it, and as user space sees each CPU's. */
export function roundUp8(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

/** The least power of two that is not below a number of 1 or more. */
export function powerOf2(number: number): number {
  return 2 ** Math.ceil(Math.log2(number));
}

/** Values of all CPUs, in their order. */
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
