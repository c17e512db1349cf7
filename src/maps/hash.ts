import { createHash } from "node:crypto";
import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { HASH_ELEMENT_BYTES_MAX, HASH_ENTRIES_MAX } from "../abi/limits.ts";
import { afterKey, afterPrefix, type Cell, type CellKey, readU32Key, u32Key } from "./cells.ts";
import { checkAccessFlags, ELEMENT_PREFIX_BYTES, elementsPrefix } from "./common.ts";
import type { BatchPage, BatchWalk, Element, MapRecord, MapStore, MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

/**
 * BPF_MAP_TYPE_HASH. Source: kernel/bpf/hashtab.c.
 *
 * A cell a key: prefix of the map, u32 bucket, key; the value as it is. A walk goes by bucket and by key within a
 * bucket: the kernel promises no order, only that it is stable while the map is not changed and that a batch is made of
 * whole buckets. The number of buckets is the kernel's: max_entries, rounded up to a power of two.
 *
 * A key longer than KEY_IN_CELL_BYTES_MAX stands in its cell's key as a digest, and in front of the value as it is.
 */
const KEY_IN_CELL_BYTES_MAX = 512;

const BUCKET_BYTES = 4;

/** sizeof(struct htab_elem). */
const ELEMENT_HEAD_BYTES = 48;

const HASH_FLAGS =
  BPF_F.BPF_F_NO_PREALLOC |
  BPF_F.BPF_F_NUMA_NODE |
  BPF_F.BPF_F_ZERO_SEED |
  BPF_F.BPF_F_RDONLY |
  BPF_F.BPF_F_WRONLY |
  BPF_F.BPF_F_RDONLY_PROG |
  BPF_F.BPF_F_WRONLY_PROG;

const ABSENT = refuse("ENOENT", "no element has this key");
const EMPTY = refuse("ENOENT", "the map has no elements");
const LAST = refuse("ENOENT", "this was the last key");
const PRESENT = refuse("EEXIST", "BPF_NOEXIST, but an element has this key");
const WALKED = refuse("ENOENT", "the end of the map");

/**
 * Lookup batches of hash maps: the position is the number of the next bucket, and a bucket comes whole or not at all.
 *
 *     buckets 0: a   2: b c   5: d        count 2: a            position 2 (bucket 2 does not fit beside a)
 *                                         then     b c          position 5
 *                                         then     d, ENOENT    position 8 (of 8 buckets)
 */
const byBuckets: BatchWalk = {
  checksFlags: true,
  positionAlways: true,

  positionBytes() {
    return 4;
  },

  read(store, position, count) {
    const buckets = bucketCount(store.map);
    const start = position === null ? 0 : position.readUInt32LE(0);
    if (start >= buckets) return refuse("ENOENT", `in_batch is ${start}: the map has ${buckets} buckets`);
    const prefix = elementsPrefix(store.map);
    const elements: Element[] = [];
    const bucketEnds: number[] = [];
    let bucket = start;
    let inBucket: Element[] = [];
    const endBucket = (): void => {
      for (const element of inBucket) elements.push(element);
      bucketEnds.push(elements.length);
      inBucket = [];
    };
    const page = (next: number, end: Refusal | null): BatchPage => ({
      elements,
      bucketEnds,
      position: u32Buffer(next),
      end,
    });
    for (const cell of store.cells.range(prefix + u32Key(start), afterPrefix(prefix))) {
      const its = readU32Key(cell[0], prefix.length);
      if (its !== bucket) {
        endBucket();
        bucket = its;
      }
      inBucket.push(elementOf(store.map, cell));
      if (elements.length + inBucket.length > count)
        return page(
          bucket,
          elements.length > 0 ? null : refuse("ENOSPC", `bucket ${bucket} has more elements than count, ${count}`),
        );
    }
    endBucket();
    return page(buckets, WALKED);
  },
};

function roundUp8(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

function u32Buffer(number: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(number, 0);
  return bytes;
}

function bucketCount(map: MapRecord): number {
  return 2 ** Math.ceil(Math.log2(map.maxEntries));
}

/** Where a cell's key is put together: one string made of bytes at once is cheaper than one joined from parts. */
const scratch = Buffer.alloc(ELEMENT_PREFIX_BYTES + BUCKET_BYTES + KEY_IN_CELL_BYTES_MAX);

function cellKey(map: MapRecord, key: Buffer): CellKey {
  const rest = key.length <= KEY_IN_CELL_BYTES_MAX ? key : createHash("sha256").update(key).digest();
  scratch.write(elementsPrefix(map), 0, "latin1");
  scratch.writeUInt32BE((mix(key) & (bucketCount(map) - 1)) >>> 0, ELEMENT_PREFIX_BYTES);
  const end = rest.copy(scratch, ELEMENT_PREFIX_BYTES + BUCKET_BYTES);
  return scratch.toString("latin1", 0, ELEMENT_PREFIX_BYTES + BUCKET_BYTES + end);
}

/** FNV-1a over the key, finished by Murmur3's fmix32, so that close keys land in far buckets. */
function mix(key: Buffer): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ (key[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function valueIn(map: MapRecord, bytes: Buffer): Buffer {
  return map.keySize <= KEY_IN_CELL_BYTES_MAX ? bytes : bytes.subarray(map.keySize);
}

function keyOf(map: MapRecord, [cell, bytes]: Cell): Buffer {
  if (map.keySize > KEY_IN_CELL_BYTES_MAX) return bytes.subarray(0, map.keySize);
  return Buffer.from(cell.slice(cell.length - map.keySize), "latin1");
}

function elementOf(map: MapRecord, cell: Cell): Element {
  return { key: keyOf(map, cell), value: valueIn(map, cell[1]) };
}

function write(store: MapStore, cell: CellKey, key: Buffer, value: Buffer): void {
  store.cells.put(cell, store.map.keySize <= KEY_IN_CELL_BYTES_MAX ? value : Buffer.concat([key, value]));
  store.changed(store.map, key, value);
}

function erase(store: MapStore, cell: CellKey, key: Buffer): void {
  store.setEntryCount(store.entryCount() - 1);
  store.cells.delete(cell);
  store.changed(store.map, key, null);
}

function* elements(store: MapStore, after: Buffer | null): Iterable<Element> {
  const prefix = elementsPrefix(store.map);
  const from = after === null ? prefix : afterKey(cellKey(store.map, after));
  for (const cell of store.cells.range(from, afterPrefix(prefix))) yield elementOf(store.map, cell);
}

export const hash: MapType = {
  first(attr) {
    if ((attr.mapFlags & ~HASH_FLAGS) !== 0)
      return refuse("EINVAL", `map_flags ${attr.mapFlags}: not all of them are a hash's`);
    const access = checkAccessFlags(attr.mapFlags);
    if (access !== null) return access;
    if (attr.maxEntries === 0) return refuse("EINVAL", "max_entries is 0");
    if (attr.keySize === 0) return refuse("EINVAL", "key_size is 0");
    if (attr.valueSize === 0) return refuse("EINVAL", "value_size is 0");
    const bytes = attr.keySize + attr.valueSize;
    if (bytes > HASH_ELEMENT_BYTES_MAX)
      return refuse("E2BIG", `key_size + value_size is ${bytes}: more than ${HASH_ELEMENT_BYTES_MAX}`);
    return null;
  },

  second(attr) {
    if (attr.maxEntries > HASH_ENTRIES_MAX)
      return refuse("E2BIG", `max_entries is ${attr.maxEntries}: more than ${HASH_ENTRIES_MAX}`);
    return null;
  },

  allocatedBytes(attr) {
    if ((attr.mapFlags & BPF_F.BPF_F_NO_PREALLOC) !== 0) return 0;
    return attr.maxEntries * (ELEMENT_HEAD_BYTES + roundUp8(attr.keySize) + roundUp8(attr.valueSize));
  },

  valueBytes(map) {
    return map.valueSize;
  },

  lookup(store, key) {
    const bytes = store.cells.get(cellKey(store.map, key));
    return bytes === undefined ? ABSENT : valueIn(store.map, bytes);
  },

  update(store, key, value, flags) {
    if (flags > BPF_ELEM.BPF_EXIST)
      return refuse("EINVAL", `flags ${flags}: a hash takes BPF_ANY, BPF_NOEXIST or BPF_EXIST`);
    const cell = cellKey(store.map, key);
    const present = store.cells.get(cell) !== undefined;
    if (present && flags === 1n) return PRESENT;
    if (!present && flags === 2n) return refuse("ENOENT", "BPF_EXIST, but no element has this key");
    if (!present) {
      const count = store.entryCount();
      const most = store.map.maxEntries;
      if (count >= most) return refuse("E2BIG", `map is full: ${count} of ${most} entries`);
      store.setEntryCount(count + 1);
    }
    write(store, cell, key, value);
    return null;
  },

  delete(store, key) {
    const cell = cellKey(store.map, key);
    if (store.cells.get(cell) === undefined) return ABSENT;
    erase(store, cell, key);
    return null;
  },

  nextKey(store, key) {
    const prefix = elementsPrefix(store.map);
    const end = afterPrefix(prefix);
    if (key !== null) {
      const cell = cellKey(store.map, key);
      if (store.cells.get(cell) !== undefined) {
        for (const next of store.cells.range(afterKey(cell), end)) return keyOf(store.map, next);
        return LAST;
      }
    }
    for (const next of store.cells.range(prefix, end)) return keyOf(store.map, next);
    return EMPTY;
  },

  take(store, key) {
    const cell = cellKey(store.map, key);
    const bytes = store.cells.get(cell);
    if (bytes === undefined) return ABSENT;
    erase(store, cell, key);
    return valueIn(store.map, bytes);
  },

  batch: { lookup: byBuckets, lookupAndDelete: byBuckets, update: null, delete: null },

  put(store, key, value) {
    const cell = cellKey(store.map, key);
    if (store.cells.get(cell) === undefined) store.setEntryCount(store.entryCount() + 1);
    write(store, cell, key, value);
  },

  remove(store, key) {
    erase(store, cellKey(store.map, key), key);
  },

  elements,
  stored: (store) => elements(store, null),
};
