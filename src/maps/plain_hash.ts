/** The rows of BPF_MAP_TYPE_HASH and BPF_MAP_TYPE_PERCPU_HASH. */

import { perCpuBytes, USUAL } from "./common.ts";
import { checkHash, checkHashEntries, hashMemory } from "./hash_create.ts";
import {
  ABSENT,
  byBuckets,
  byKey,
  cellKey,
  cellsOf,
  checkUpdate,
  elementOf,
  erase,
  nextKey,
  valueIn,
  write,
} from "./hash_table.ts";
import type { MapType } from "./map.ts";
import type { MapFacts } from "./map_facts.ts";

const walk = byBuckets(elementOf);

/** Hash maps that refuse new keys when they are full. `facts.perCpu`: one value for each key and CPU. */
export function plainHash(facts: MapFacts): MapType {
  return {
    ...USUAL,
    facts,
    allocCheck: (attr) => checkHash(attr, facts),
    alloc: (attr) => checkHashEntries(attr),
    ...hashMemory(facts),
    valueBytes: facts.perCpu ? perCpuBytes : (map) => map.valueSize,

    lookup(store, key) {
      const bytes = store.cells.get(cellKey(store.map, key));
      return bytes === undefined ? ABSENT : valueIn(store.map, bytes);
    },

    update(store, key, value, flags) {
      const cell = cellKey(store.map, key);
      const present = store.cells.get(cell) !== undefined;
      const refusal = checkUpdate(store, present, flags, true);
      if (refusal !== null) return refusal;
      if (!present) store.setEntryCount(store.entryCount() + 1);
      write(store, cell, key, value);
      store.changed(store.map, key, value);
      return null;
    },

    delete(store, key) {
      const cell = cellKey(store.map, key);
      if (store.cells.get(cell) === undefined) return ABSENT;
      erase(store, cell);
      store.changed(store.map, key, null);
      return null;
    },

    nextKey,

    lookupAndDelete(store, key) {
      const cell = cellKey(store.map, key);
      const bytes = store.cells.get(cell);
      if (bytes === undefined) return ABSENT;
      erase(store, cell);
      store.changed(store.map, key, null);
      return valueIn(store.map, bytes);
    },

    batch: { lookup: walk, lookupAndDelete: walk, update: null, delete: null },

    put(store, key, value) {
      const cell = cellKey(store.map, key);
      if (store.cells.get(cell) === undefined) store.setEntryCount(store.entryCount() + 1);
      write(store, cell, key, value);
      store.changed(store.map, key, value);
    },

    remove(store, key) {
      erase(store, cellKey(store.map, key));
      store.changed(store.map, key, null);
    },

    ...byKey((_store, value) => value),

    *stored(store) {
      for (const cell of cellsOf(store)) yield elementOf(store.map, cell);
    },
  };
}
