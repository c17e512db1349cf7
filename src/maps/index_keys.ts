import { afterPrefix, type CellKey, readU32Key, u32Key } from "./cells.ts";
import { ELEMENT_PREFIX_BYTES, elementsPrefix, u32Buffer } from "./common.ts";
import type { MapRecord, MapStore, MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

/**
 * Keys that are indices, as all array-like types have them. A cell an index that holds anything: prefix of the map, index
 * (most significant byte first, to walk in order).
 */
export function indexOf(key: Buffer): number {
  return key.readUInt32LE(0);
}

export function cellAt(map: MapRecord, index: number): CellKey {
  return elementsPrefix(map) + u32Key(index);
}

/** The index that a cell is of. */
export function indexAt(cell: CellKey): number {
  return readU32Key(cell, ELEMENT_PREFIX_BYTES);
}

/** array_map_get_next_key(): whether slots are filled or not. */
export function nextIndex(store: MapStore, key: Buffer | null): Buffer | Refusal {
  const index = key === null ? store.map.maxEntries : indexOf(key);
  if (index >= store.map.maxEntries) return u32Buffer(0);
  if (index === store.map.maxEntries - 1) return refuse("ENOENT", `${index} is the last index`);
  return u32Buffer(index + 1);
}

function outside(map: MapRecord, index: number): string {
  return `index ${index} is outside: the array has ${map.maxEntries} entries`;
}

/** E2BIG, or what the type answers instead. */
export function checkIndex(map: MapRecord, index: number, errno: "E2BIG" | "ENOENT" | "EINVAL"): Refusal | null {
  return index < map.maxEntries ? null : refuse(errno, outside(map, index));
}

/** Filled indices, with what their cells hold. */
export function* filled(store: MapStore): Iterable<readonly [index: number, bytes: Buffer]> {
  const prefix = elementsPrefix(store.map);
  for (const [cell, bytes] of store.cells.range(prefix, afterPrefix(prefix))) yield [indexAt(cell), bytes];
}

/**
 * Counts an element of an array that is written for the first time. A state of an earlier release has counted none: where some were
 * written before, none is, and writtenCount answers null.
 */
export function countWritten(store: MapStore, before: Buffer | undefined): void {
  if (before !== undefined) return;
  const count = store.entryCount();
  if (count > 0 || !isAnyWritten(store)) store.setEntryCount(count + 1);
}

/** How many elements of an array were ever written; null: they were not counted. */
export function writtenCount(store: MapStore): number | null {
  const count = store.entryCount();
  return count > 0 || !isAnyWritten(store) ? count : null;
}

function isAnyWritten(store: MapStore): boolean {
  for (const [index] of filled(store)) return index < store.map.maxEntries;
  return false;
}

/** For rows of types whose cells stand by index: what a filled one is shown as. */
export function byIndex(shown: (store: MapStore, bytes: Buffer) => Buffer) {
  return {
    cellOf: (map, key) => cellAt(map, indexOf(key)),
    element(store, cell, bytes) {
      return bytes === undefined ? null : { key: u32Buffer(indexAt(cell)), value: shown(store, bytes) };
    },
  } as const satisfies Partial<MapType>;
}
