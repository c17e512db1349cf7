/**
 * Keys that are indexes, for all array-like types. A filled index has a cell with the key: prefix of the map, index
 * (most significant byte first, so that a walk is in order).
 */

import { afterPrefix, type CellKey, readU32Key, u32Key } from "./cells.ts";
import { ELEMENT_PREFIX_BYTES, elementsPrefix, u32Buffer } from "./common.ts";
import type { MapRecord, MapStore, MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

export function indexOf(key: Buffer): number {
  return key.readUInt32LE(0);
}

export function cellAt(map: MapRecord, index: number): CellKey {
  return elementsPrefix(map) + u32Key(index);
}

/** The index in a cell's key. */
export function indexAt(cell: CellKey): number {
  return readU32Key(cell, ELEMENT_PREFIX_BYTES);
}

/** array_map_get_next_key(): the next index, whether its slot is filled or not. */
export function nextIndex(store: MapStore, key: Buffer | null): Buffer | Refusal {
  const index = key === null ? store.map.maxEntries : indexOf(key);
  if (index >= store.map.maxEntries) return u32Buffer(0);
  if (index === store.map.maxEntries - 1) return refuse("ENOENT", `${index} is the last index`);
  return u32Buffer(index + 1);
}

function outside(map: MapRecord, index: number): string {
  return `index ${index} is outside: the array has ${map.maxEntries} entries`;
}

/** Refuses an index that is too large, with the errno that the type's operation has for that. */
export function checkIndex(map: MapRecord, index: number, errno: "E2BIG" | "ENOENT" | "EINVAL"): Refusal | null {
  return index < map.maxEntries ? null : refuse(errno, outside(map, index));
}

/** The filled indexes and the bytes of their cells, ascending. */
export function* filled(store: MapStore): Iterable<readonly [index: number, bytes: Buffer]> {
  const prefix = elementsPrefix(store.map);
  for (const [cell, bytes] of store.cells.range(prefix, afterPrefix(prefix))) yield [indexAt(cell), bytes];
}

/**
 * Counts an element of an array when it is first written. States made by earlier releases have no such count: if such
 * an array has elements, it is not counted from then on either, and `writtenCount` returns null.
 */
export function countWritten(store: MapStore, before: Buffer | undefined): void {
  if (before !== undefined) return;
  const count = store.entryCount();
  if (count > 0 || !isAnyWritten(store)) store.setEntryCount(count + 1);
}

/** The number of elements of an array that were ever written; null: not counted. */
export function writtenCount(store: MapStore): number | null {
  const count = store.entryCount();
  return count > 0 || !isAnyWritten(store) ? count : null;
}

function isAnyWritten(store: MapStore): boolean {
  for (const [index] of filled(store)) return index < store.map.maxEntries;
  return false;
}

/**
 * The methods of a map type's row (`maps/types.ts`) that find and show elements by index. `shown` converts stored bytes
 * to the value that is shown.
 */
export function byIndex(shown: (store: MapStore, bytes: Buffer) => Buffer) {
  return {
    cellOf: (map, key) => cellAt(map, indexOf(key)),
    element(store, cell, bytes) {
      return bytes === undefined ? null : { key: u32Buffer(indexAt(cell)), value: shown(store, bytes) };
    },
  } as const satisfies Partial<MapType>;
}
