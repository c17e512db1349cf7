import { BPF_F } from "../abi/bpf.ts";
import { type CellKey, u32Key } from "./cells.ts";
import type { BatchWalk, Element, MapRecord, MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** The first byte of every cell that holds an element; the others are the syscall ring's tables. */
const ELEMENT_TABLE = "e";

/** The table's letter and the map's id. */
export const ELEMENT_PREFIX_BYTES = 5;

/** What the keys of a map's element cells begin with. */
export function elementsPrefix(map: Pick<MapRecord, "id">): CellKey {
  return ELEMENT_TABLE + u32Key(map.id);
}

const BOTH_PROG = BPF_F.BPF_F_RDONLY_PROG | BPF_F.BPF_F_WRONLY_PROG;

/** bpf_map_flags_access_ok(), include/linux/bpf.h. That RDONLY excludes WRONLY has been checked before. */
export function checkAccessFlags(flags: number): Refusal | null {
  if ((flags & BOTH_PROG) === BOTH_PROG) return refuse("EINVAL", "BPF_F_RDONLY_PROG excludes BPF_F_WRONLY_PROG");
  return null;
}

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
