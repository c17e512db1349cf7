/**
 * Elements by key, for all hash-like types. Source: kernel/bpf/hashtab.c.
 *
 * An element's cell has the key: prefix of the map, u32 bucket, key. Its bytes are the value. A walk goes by bucket,
 * and by key within a bucket. The kernel promises no order; it does promise that the order is stable while the map is
 * not changed, and that batches consist of whole buckets. The number of buckets is the kernel's: max_entries, rounded
 * up to a power of two.
 *
 * A key longer than KEY_IN_CELL_BYTES_MAX is replaced by its SHA-256 in the cell's key, and is put before the value in
 * the cell's bytes.
 */

import { createHash } from "node:crypto";
import { BPF_ELEM } from "../abi/bpf.ts";
import { afterKey, afterPrefix, type Cell, type CellKey, readU32Key, u32Key } from "./cells.ts";
import { checkUpdateFlags, ELEMENT_PREFIX_BYTES, elementsPrefix, u32Buffer, writeElementsPrefix } from "./common.ts";
import type { BatchPage, BatchWalk, Element, MapRecord, MapStore, MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

const KEY_IN_CELL_BYTES_MAX = 512;

const BUCKET_BYTES = 4;

export const ABSENT = refuse("ENOENT", "no element has this key");
const EMPTY = refuse("ENOENT", "the map has no elements");
const LAST = refuse("ENOENT", "this was the last key");
const PRESENT = refuse("EEXIST", "BPF_NOEXIST, but an element has this key");
const MISSING = refuse("ENOENT", "BPF_EXIST, but no element has this key");
const WALKED = refuse("ENOENT", "the map has no elements after in_batch");

function bucketCount(map: MapRecord): number {
  return 2 ** (32 - Math.clz32(map.maxEntries - 1));
}

/** A buffer in which cells' keys are assembled: one string made of it is cheaper than strings joined. */
const scratch = Buffer.alloc(ELEMENT_PREFIX_BYTES + BUCKET_BYTES + KEY_IN_CELL_BYTES_MAX);

/** The key of the cell that has, or would have, the element with this key. */
export function cellKey(map: MapRecord, key: Buffer): CellKey {
  const rest = key.length <= KEY_IN_CELL_BYTES_MAX ? key : createHash("sha256").update(key).digest();
  writeElementsPrefix(map, scratch);
  scratch.writeUInt32BE((mix(key) & (bucketCount(map) - 1)) >>> 0, ELEMENT_PREFIX_BYTES);
  scratch.set(rest, ELEMENT_PREFIX_BYTES + BUCKET_BYTES);
  return scratch.toString("latin1", 0, ELEMENT_PREFIX_BYTES + BUCKET_BYTES + rest.length);
}

/** FNV-1a over the key, finished by Murmur3's fmix32, so that similar keys get different buckets. */
function mix(key: Buffer): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ (key[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** The value in the bytes of an element's cell. */
export function valueIn(map: MapRecord, bytes: Buffer): Buffer {
  return map.keySize <= KEY_IN_CELL_BYTES_MAX ? bytes : bytes.subarray(map.keySize);
}

function keyOf(map: MapRecord, [cell, bytes]: Cell): Buffer {
  if (map.keySize > KEY_IN_CELL_BYTES_MAX) return bytes.subarray(0, map.keySize);
  return Buffer.from(cell.slice(cell.length - map.keySize), "latin1");
}

/** Reads an element from its cell. */
export function elementOf(map: MapRecord, cell: Cell): Element {
  return { key: keyOf(map, cell), value: valueIn(map, cell[1]) };
}

/**
 * The methods of a map type's row (`maps/types.ts`) that find and show elements by key. `shown` converts a stored value
 * to the value that is shown.
 */
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

/** Writes an element. It does not change the entry count: callers count new elements themselves. */
export function write(store: MapStore, cell: CellKey, key: Buffer, value: Buffer): void {
  store.cells.put(cell, store.map.keySize <= KEY_IN_CELL_BYTES_MAX ? value : Buffer.concat([key, value]));
}

export function erase(store: MapStore, cell: CellKey): void {
  store.setEntryCount(store.entryCount() - 1);
  store.cells.delete(cell);
}

/** check_flags() of hashtab.c: BPF_NOEXIST and BPF_EXIST. */
export function checkPresence(present: boolean, flags: bigint): Refusal | null {
  if (present && flags === BPF_ELEM.BPF_NOEXIST) return PRESENT;
  if (!present && flags === BPF_ELEM.BPF_EXIST) return MISSING;
  return null;
}

/** The checks of an update that all hash maps share. `full`: whether a full map refuses new keys. */
export function checkUpdate(store: MapStore, present: boolean, flags: bigint, full: boolean): Refusal | null {
  const refusal = flags === BPF_ELEM.BPF_ANY ? null : (checkUpdateFlags(flags) ?? checkPresence(present, flags));
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

/** The cells of all elements. */
export function cellsOf(store: MapStore): Iterable<Cell> {
  const prefix = elementsPrefix(store.map);
  return store.cells.range(prefix, afterPrefix(prefix));
}

/**
 * Lookup batches of hash maps. The position is the number of the next bucket; a bucket is answered whole or not at all.
 * Example with 8 buckets:
 *
 *   bucket 0: a   bucket 2: b c   bucket 5: d
 *   count 2: a         next position 2 (bucket 2 does not fit beside a)
 *            b c       next position 5
 *            d, ENOENT next position 8
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
