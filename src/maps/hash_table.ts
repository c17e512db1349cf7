import { createHash } from "node:crypto";
import { afterKey, afterPrefix, type Cell, type CellKey, readU32Key, u32Key } from "./cells.ts";
import { checkUpdateFlags, ELEMENT_PREFIX_BYTES, elementsPrefix, u32Buffer, writeElementsPrefix } from "./common.ts";
import type { BatchPage, BatchWalk, Element, MapRecord, MapStore, MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

/**
 * Elements by key, as all hash-like types keep them. Source: kernel/bpf/hashtab.c.
 *
 * A cell a key: prefix of the map, u32 bucket, key; the value as it is. A walk goes by bucket and by key within a
 * bucket: the kernel promises no order, only that it is stable while the map is not changed and that a batch is made of
 * whole buckets. The number of buckets is the kernel's: max_entries, rounded up to a power of two.
 *
 * A key longer than KEY_IN_CELL_BYTES_MAX stands in its cell's key as a digest, and in front of the value as it is.
 */
const KEY_IN_CELL_BYTES_MAX = 512;

const BUCKET_BYTES = 4;

export const ABSENT = refuse("ENOENT", "no element has this key");
const EMPTY = refuse("ENOENT", "the map has no elements");
const LAST = refuse("ENOENT", "this was the last key");
const PRESENT = refuse("EEXIST", "BPF_NOEXIST, but an element has this key");
const MISSING = refuse("ENOENT", "BPF_EXIST, but no element has this key");
const WALKED = refuse("ENOENT", "the end of the map");

function bucketCount(map: MapRecord): number {
  return 2 ** (32 - Math.clz32(map.maxEntries - 1));
}

/** Where a cell's key is put together: one string made of bytes at once is cheaper than one joined from parts. */
const scratch = Buffer.alloc(ELEMENT_PREFIX_BYTES + BUCKET_BYTES + KEY_IN_CELL_BYTES_MAX);

/** Where the element with this key is, or would be. */
export function cellKey(map: MapRecord, key: Buffer): CellKey {
  const rest = key.length <= KEY_IN_CELL_BYTES_MAX ? key : createHash("sha256").update(key).digest();
  writeElementsPrefix(map, scratch);
  scratch.writeUInt32BE((mix(key) & (bucketCount(map) - 1)) >>> 0, ELEMENT_PREFIX_BYTES);
  scratch.set(rest, ELEMENT_PREFIX_BYTES + BUCKET_BYTES);
  return scratch.toString("latin1", 0, ELEMENT_PREFIX_BYTES + BUCKET_BYTES + rest.length);
}

/** FNV-1a over the key, finished by Murmur3's fmix32, so that close keys land in far buckets. */
function mix(key: Buffer): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ (key[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** The value in an element's cell. */
export function valueIn(map: MapRecord, bytes: Buffer): Buffer {
  return map.keySize <= KEY_IN_CELL_BYTES_MAX ? bytes : bytes.subarray(map.keySize);
}

function keyOf(map: MapRecord, [cell, bytes]: Cell): Buffer {
  if (map.keySize > KEY_IN_CELL_BYTES_MAX) return bytes.subarray(0, map.keySize);
  return Buffer.from(cell.slice(cell.length - map.keySize), "latin1");
}

/** Reads an element back from its cell. */
export function elementOf(map: MapRecord, cell: Cell): Element {
  return { key: keyOf(map, cell), value: valueIn(map, cell[1]) };
}

/** For rows of types whose cells stand by key: what a value is shown as. */
export function byKey(shown: (store: MapStore, value: Buffer) => Buffer) {
  return {
    cellOf: cellKey,
    element(store, cell, bytes) {
      if (bytes === undefined) return null;
      const { key, value } = elementOf(store.map, [cell, bytes]);
      return { key, value: shown(store, value) };
    },
  } as const satisfies Partial<MapType>;
}

/** Counts nothing: who writes a new element has counted it. */
export function write(store: MapStore, cell: CellKey, key: Buffer, value: Buffer): void {
  store.cells.put(cell, store.map.keySize <= KEY_IN_CELL_BYTES_MAX ? value : Buffer.concat([key, value]));
}

export function erase(store: MapStore, cell: CellKey): void {
  store.setEntryCount(store.entryCount() - 1);
  store.cells.delete(cell);
}

/** check_flags() of hashtab.c. */
export function checkPresence(present: boolean, flags: bigint): Refusal | null {
  if (present && flags === 1n) return PRESENT;
  if (!present && flags === 2n) return MISSING;
  return null;
}

/** Guards of an update that all hash maps share; `full`: whether a map that is full refuses new keys. */
export function checkUpdate(store: MapStore, present: boolean, flags: bigint, full: boolean): Refusal | null {
  const refusal = flags === 0n ? null : (checkUpdateFlags(flags) ?? checkPresence(present, flags));
  if (refusal !== null || present || !full) return refusal;
  return checkFull(store);
}

export function checkFull(store: MapStore): Refusal | null {
  const count = store.entryCount();
  const most = store.map.maxEntries;
  return count >= most ? refuse("E2BIG", `map is full: ${count} of ${most} entries`) : store.growth();
}

export function nextKey(store: MapStore, key: Buffer | null): Buffer | Refusal {
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
}

/** Cells of all elements. */
export function cellsOf(store: MapStore): Iterable<Cell> {
  const prefix = elementsPrefix(store.map);
  return store.cells.range(prefix, afterPrefix(prefix));
}

/**
 * Lookup batches of hash maps: the position is the number of the next bucket, and a bucket comes whole or not at all.
 *
 *     buckets 0: a   2: b c   5: d        count 2: a            position 2 (bucket 2 does not fit beside a)
 *                                         then     b c          position 5
 *                                         then     d, ENOENT    position 8 (of 8 buckets)
 */
export function byBuckets(elementOf: (map: MapRecord, cell: Cell) => Element): BatchWalk {
  return {
    checksFlags: true,
    positionAlways: true,

    positionBytes() {
      return BUCKET_BYTES;
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
}
