/**
 * The parts that DEVMAP and CPUMAP share: slots by index that say where packets are sent. A cell has a number
 * (interface, queue size) and a program's object id, four bytes each.
 */

import { NO_BATCHES, noBtf, noLookupAndDelete, USUAL, u32Buffer } from "./common.ts";
import { SLOT_EMPTY } from "./holder_array.ts";
import { byIndex, cellAt, checkIndex, filled, indexOf, nextIndex } from "./index_keys.ts";
import type { MapStore, MapType } from "./map.ts";
import { holdProgram, releaseProgram, shown } from "./xdp_programs.ts";

function remove(store: MapStore, key: Buffer): void {
  const cell = cellAt(store.map, indexOf(key));
  const before = store.cells.get(cell);
  if (before === undefined) return;
  store.cells.delete(cell);
  store.setEntryCount(store.entryCount() - 1);
  releaseProgram(store, before);
  store.changed(store.map, key, null);
}

/** Fills a slot. A number of 0 empties it. */
function put(store: MapStore, key: Buffer, value: Buffer): void {
  holdProgram(store, value);
  remove(store, key);
  if (value.readUInt32LE(0) === 0) return;
  store.cells.put(cellAt(store.map, indexOf(key)), value);
  store.setEntryCount(store.entryCount() + 1);
  store.changed(store.map, key, value);
}

/** Fills a slot after the checks, and notes the element in the event. A number of 0 empties it. */
export function fill(store: MapStore, key: Buffer, number: number, program: number): null {
  const value = u32Buffer(number, program);
  put(store, key, value);
  if (number === 0) store.emptied(key);
  else store.stored(key, value);
  return null;
}

export const TARGET_SLOTS = {
  ...USUAL,
  checkBtf: noBtf,

  lookup(store, key) {
    const index = indexOf(key);
    const outside = checkIndex(store.map, index, "ENOENT");
    if (outside !== null) return outside;
    const cell = store.cells.get(cellAt(store.map, index));
    return cell === undefined ? SLOT_EMPTY : shown(store, cell);
  },

  delete(store, key) {
    const outside = checkIndex(store.map, indexOf(key), "EINVAL");
    if (outside !== null) return outside;
    remove(store, key);
    return null;
  },

  nextKey: nextIndex,
  lookupAndDelete: noLookupAndDelete,
  batch: NO_BATCHES,
  put,
  remove,

  free: (store, { value }) => releaseProgram(store, value),

  ...byIndex(shown),

  *stored(store) {
    for (const [index, value] of filled(store)) yield { key: u32Buffer(index), value };
  },
} as const satisfies Partial<MapType>;
