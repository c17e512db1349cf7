/**
 * BPF_MAP_TYPE_BLOOM_FILTER. Source: kernel/bpf/bloom_filter.c. Values are kept whole, by their SHA-256. So a lookup
 * finds only values that were added, while the kernel also finds some that were not.
 */

import { createHash } from "node:crypto";
import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { QUEUE_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { afterPrefix, bytesKey, type CellKey } from "./cells.ts";
import {
  ACCESS_FLAGS,
  checkEntries,
  checkFlags,
  checkKeySize,
  ELEMENT_PREFIX_BYTES,
  elementsPrefix,
  NO_BATCHES,
  noLookupAndDelete,
  PROG_FLAGS,
  USUAL,
} from "./common.ts";
import { type MapStore, type MapType, POSITION_BYTES } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { refuse, refused } from "./refusal.ts";

const FLAGS = BPF_F.BPF_F_NUMA_NODE | BPF_F.BPF_F_ZERO_SEED | ACCESS_FLAGS | PROG_FLAGS;
const HASHES_MAX = 15n;
const HASHES_USUAL = 5;
const DIGEST_BYTES = 32;
const NEVER_ADDED = refuse("ENOENT", "the value was never added");

function digestOf(value: Buffer): Buffer {
  return createHash("sha256").update(value).digest();
}

function cellOf(store: MapStore, value: Buffer): string {
  return elementsPrefix(store.map) + digestOf(value).toString("latin1");
}

function put(store: MapStore, place: Buffer, value: Buffer): void {
  const cell = cellOf(store, value);
  if (store.cells.get(cell) !== undefined) return;
  store.setEntryCount(store.entryCount() + 1);
  store.cells.put(cell, value);
  store.changed(store.map, place, value);
}

/** A value's position: the first bytes of its digest. */
function positionOf(cell: CellKey): Buffer {
  return Buffer.from(cell.slice(ELEMENT_PREFIX_BYTES, ELEMENT_PREFIX_BYTES + POSITION_BYTES), "latin1");
}

export const bloomFilter: MapType = {
  ...USUAL,
  facts: { ...PLAIN_FACTS, asks: true, mapExtra: true },

  checkBtf(_attr, key) {
    return key === undefined ? null : refuse("EINVAL", "btf_key_type_id is not allowed: a bloom filter has no keys");
  },

  allocCheck(attr) {
    if (attr.valueSize <= QUEUE_VALUE_BYTES_MAX) return null;
    return refuse("E2BIG", `value_size is ${attr.valueSize}: more than ${QUEUE_VALUE_BYTES_MAX}`);
  },

  alloc(attr) {
    const refusal = checkKeySize(attr, 0) ?? checkEntries(attr) ?? checkFlags(attr, FLAGS, "a bloom filter's");
    if (refusal !== null) return refusal;
    if (attr.valueSize === 0) return refuse("EINVAL", "value_size is 0");
    return attr.mapExtra > HASHES_MAX
      ? refuse("EINVAL", `map_extra is ${attr.mapExtra}: a bloom filter has at most ${HASHES_MAX} hash functions`)
      : null;
  },

  /**
   * The size of the kernel's bitmap: entries x hash functions / ln 2 bits, rounded up to a power of two, at most 2^32.
   */
  allocatedBytes(attr) {
    const bits = (attr.maxEntries * (Number(attr.mapExtra) || HASHES_USUAL) * 7) / 5;
    return Math.min(2 ** Math.ceil(Math.log2(bits)), 2 ** 32) / 8;
  },

  /** The bitmap is preallocated in the kernel, but the values, which the ledger keeps, are not. */
  preallocated: () => false,

  lookup(store, _key, value) {
    return store.cells.get(cellOf(store, value as Buffer)) ?? NEVER_ADDED;
  },

  update(store, _key, value, flags) {
    if (flags !== BPF_ELEM.BPF_ANY)
      return refuse("EINVAL", `flags ${flags}: only BPF_ANY is allowed for a bloom filter`);
    const growth = store.cells.get(cellOf(store, value)) === undefined ? store.growth() : null;
    if (growth !== null) return growth;
    const place = digestOf(value).subarray(0, POSITION_BYTES);
    put(store, place, value);
    store.stored(place, null);
    return null;
  },

  delete: refused("EOPNOTSUPP", "values cannot be deleted from a bloom filter"),
  nextKey: refused("EOPNOTSUPP", "a bloom filter has no keys to walk"),
  lookupAndDelete: noLookupAndDelete,
  batch: NO_BATCHES,
  put,

  remove() {
    throw new Error("bloom_filter remove: nothing removes what was added");
  },

  /** The last cell that can have this position, since a position is only the beginning of a digest. */
  cellOf: (map, position) => elementsPrefix(map) + bytesKey(position).padEnd(DIGEST_BYTES, "\xff"),
  element: (_store, cell, bytes) => (bytes === undefined ? null : { key: positionOf(cell), value: bytes }),

  *stored(store) {
    const prefix = elementsPrefix(store.map);
    for (const [cell, value] of store.cells.range(prefix, afterPrefix(prefix))) yield { key: positionOf(cell), value };
  },
};
