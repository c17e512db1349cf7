/** The checks of a new hash map, and its memory: htab_map_alloc_check() and htab_map_alloc(), kernel/bpf/hashtab.c. */

import { BPF_F } from "../abi/bpf.ts";
import { HASH_ELEMENT_BYTES_MAX, HASH_ENTRIES_MAX, PERCPU_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { ACCESS_FLAGS, checkFlags, PROG_FLAGS, powerOf2, roundUp8 } from "./common.ts";
import type { CreateAttr, Host, MapSizes, MapType } from "./map.ts";
import type { MapFacts } from "./map_facts.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** HTAB_CREATE_FLAG_MASK */
const HASH_FLAGS =
  BPF_F.BPF_F_NO_PREALLOC |
  BPF_F.BPF_F_NO_COMMON_LRU |
  BPF_F.BPF_F_NUMA_NODE |
  BPF_F.BPF_F_ZERO_SEED |
  ACCESS_FLAGS |
  PROG_FLAGS;

/** sizeof(struct htab_elem), struct bucket and struct llist_node, and of a pointer to per-CPU values. */
const ELEMENT_HEAD_BYTES = 48;
const BUCKET_BYTES = 16;
const LIST_NODE_BYTES = 8;
const POINTER_BYTES = 8;

/** NUMA_NO_NODE */
const ANY_NODE = -1;

type HashFacts = Pick<MapFacts, "evicts" | "perCpu">;

export function checkHash(attr: CreateAttr, { evicts, perCpu }: HashFacts): Refusal | null {
  const { mapFlags, keySize, valueSize } = attr;
  const unknown = checkFlags(attr, HASH_FLAGS, "a hash's");
  if (unknown !== null) return unknown;
  const ownLists = (mapFlags & BPF_F.BPF_F_NO_COMMON_LRU) !== 0;
  if (ownLists && !evicts) return refuse("EINVAL", "BPF_F_NO_COMMON_LRU is only allowed for LRU maps");
  if (evicts && (mapFlags & BPF_F.BPF_F_NO_PREALLOC) !== 0)
    return refuse("ENOTSUPP", "BPF_F_NO_PREALLOC is not allowed for an LRU map, which is always preallocated");
  const node = (mapFlags & BPF_F.BPF_F_NUMA_NODE) === 0 ? ANY_NODE : attr.numaNode;
  if (node !== ANY_NODE && (perCpu || ownLists))
    return refuse("EINVAL", `numa_node is ${node}: memory for each CPU cannot be on one NUMA node`);
  if (attr.maxEntries === 0) return refuse("EINVAL", "max_entries is 0");
  if (keySize === 0) return refuse("EINVAL", "key_size is 0");
  if (valueSize === 0) return refuse("EINVAL", "value_size is 0");
  const bytes = keySize + valueSize;
  if (bytes > HASH_ELEMENT_BYTES_MAX)
    return refuse("E2BIG", `key_size + value_size is ${bytes}: more than ${HASH_ELEMENT_BYTES_MAX}`);
  if (perCpu && roundUp8(valueSize) > PERCPU_VALUE_BYTES_MAX)
    return refuse("E2BIG", `value_size is ${valueSize}: a CPU's value has at most ${PERCPU_VALUE_BYTES_MAX} bytes`);
  return null;
}

export function checkHashEntries(attr: CreateAttr): Refusal | null {
  if (attr.maxEntries <= HASH_ENTRIES_MAX) return null;
  return refuse("E2BIG", `max_entries is ${attr.maxEntries}: more than ${HASH_ENTRIES_MAX}`);
}

/** htab_map_mem_usage(): the part of a row that says how much memory a hash map takes. */
export function hashMemory({ perCpu }: HashFacts): Pick<MapType, "allocatedBytes" | "preallocated" | "elementBytes"> {
  const elementBytes = ({ keySize, valueSize }: MapSizes, host: Host): number => {
    const values = roundUp8(valueSize) * (perCpu ? host.possibleCpus : 1);
    return ELEMENT_HEAD_BYTES + roundUp8(keySize) + values + (perCpu ? POINTER_BYTES : 0);
  };
  const preallocated = ({ mapFlags }: MapSizes): boolean => (mapFlags & BPF_F.BPF_F_NO_PREALLOC) === 0;
  const lists = perCpu ? 2 * LIST_NODE_BYTES + POINTER_BYTES : LIST_NODE_BYTES;
  return {
    preallocated,
    elementBytes: (map, host) => elementBytes(map, host) + lists,

    allocatedBytes(map, host) {
      const buckets = powerOf2(map.maxEntries) * BUCKET_BYTES;
      return preallocated(map) ? buckets + map.maxEntries * elementBytes(map, host) : buckets;
    },
  };
}
