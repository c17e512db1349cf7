/**
 * LRU hash maps: an update with a new key in a full map evicts the least recently updated element. The kernel promises
 * less and evicts earlier (in groups per CPU, from half of max_entries on, and by updates that fail). We choose the
 * strict rule, so that a map can hold max_entries elements and events name every evicted one.
 *
 * Each update gets a number, called its use, which ascends over all maps. An element's cell has the use of its last
 * update in eight bytes before the value; a second cell leads from the use to the key:
 *
 *   e map bucket key -> use, value      u map use -> key
 */

import { afterPrefix, bytesKey, type Cell, type CellKey } from "./cells.ts";
import { perCpuBytes, USUAL, usesPrefix } from "./common.ts";
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
import { lruEntries } from "./lru_shape.ts";
import type { Element, MapRecord, MapStore, MapType } from "./map.ts";
import type { MapFacts } from "./map_facts.ts";

const USE_BYTES = 8;

function useBytes(use: number): Buffer {
  const bytes = Buffer.allocUnsafe(USE_BYTES);
  bytes.writeBigUInt64BE(BigInt(use), 0);
  return bytes;
}

function useKey(store: MapStore, bytes: Buffer): CellKey {
  return usesPrefix(store.map) + bytesKey(bytes.subarray(0, USE_BYTES));
}

function storedValue(map: MapRecord, bytes: Buffer): Buffer {
  return valueIn(map, bytes).subarray(USE_BYTES);
}

function elementIn(map: MapRecord, cell: Cell): Element {
  const { key, value } = elementOf(map, cell);
  return { key, value: value.subarray(USE_BYTES) };
}

function insert(store: MapStore, cell: CellKey, key: Buffer, value: Buffer, before: Buffer | undefined): void {
  if (before === undefined) store.setEntryCount(store.entryCount() + 1);
  else store.cells.delete(useKey(store, valueIn(store.map, before)));
  const use = useBytes(store.world.nextUse());
  store.cells.put(useKey(store, use), key);
  write(store, cell, key, Buffer.concat([use, value]));
  store.changed(store.map, key, value);
}

function drop(store: MapStore, cell: CellKey, key: Buffer, bytes: Buffer): void {
  store.cells.delete(useKey(store, valueIn(store.map, bytes)));
  erase(store, cell);
  store.changed(store.map, key, null);
}

/** Evicts the least recently updated element. */
function evict(store: MapStore): void {
  const prefix = usesPrefix(store.map);
  for (const [, key] of store.cells.range(prefix, afterPrefix(prefix))) {
    remove(store, key);
    store.evicted(key);
    return;
  }
}

function remove(store: MapStore, key: Buffer): void {
  const cell = cellKey(store.map, key);
  drop(store, cell, key, store.cells.get(cell) as Buffer);
}

const walk = byBuckets(elementIn);

export function recentHash(facts: MapFacts): MapType {
  return {
    ...USUAL,
    facts,
    allocCheck: (attr) => checkHash(attr, facts),
    alloc: (attr, { possibleCpus }) => checkHashEntries({ ...attr, maxEntries: lruEntries(attr, possibleCpus) }),
    ...hashMemory(facts),
    valueBytes: facts.perCpu ? perCpuBytes : (map) => map.valueSize,

    /** The kernel has rounded the max_entries of an adopted map already. */
    recorded(attr, { possibleCpus }) {
      return attr.adopted === undefined ? { maxEntries: lruEntries(attr, possibleCpus) } : {};
    },

    lookup(store, key) {
      const bytes = store.cells.get(cellKey(store.map, key));
      return bytes === undefined ? ABSENT : storedValue(store.map, bytes);
    },

    update(store, key, value, flags) {
      const cell = cellKey(store.map, key);
      const before = store.cells.get(cell);
      const refusal = checkUpdate(store, before !== undefined, flags, false);
      if (refusal !== null) return refusal;
      if (before === undefined && store.entryCount() >= store.map.maxEntries) evict(store);
      insert(store, cell, key, value, before);
      return null;
    },

    delete(store, key) {
      const cell = cellKey(store.map, key);
      const bytes = store.cells.get(cell);
      if (bytes === undefined) return ABSENT;
      drop(store, cell, key, bytes);
      return null;
    },

    nextKey,

    lookupAndDelete(store, key) {
      const cell = cellKey(store.map, key);
      const bytes = store.cells.get(cell);
      if (bytes === undefined) return ABSENT;
      drop(store, cell, key, bytes);
      return storedValue(store.map, bytes);
    },

    batch: { lookup: walk, lookupAndDelete: walk, update: null, delete: null },

    put(store, key, value) {
      const cell = cellKey(store.map, key);
      insert(store, cell, key, value, store.cells.get(cell));
    },

    remove,

    ...byKey((_store, value) => value.subarray(USE_BYTES)),

    *stored(store) {
      for (const cell of cellsOf(store)) yield elementIn(store.map, cell);
    },
  };
}
