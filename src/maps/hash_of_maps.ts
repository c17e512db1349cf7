/**
 * BPF_MAP_TYPE_HASH_OF_MAPS: updates take descriptors of maps, lookups answer ids. Source: kernel/bpf/hashtab.c,
 * map_in_map.c.
 */

import type { CellKey } from "./cells.ts";
import { checkValueSize, noBtf, noLookupAndDelete, USUAL, u32Buffer } from "./common.ts";
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
import { checkTemplate, innerMap, templateOf } from "./inner_maps.ts";
import type { MapStore, MapType } from "./map.ts";
import { HASH_FACTS, MAPS, type MapFacts } from "./map_facts.ts";

const FACTS: MapFacts = { ...HASH_FACTS, value: MAPS };

const walk = byBuckets(elementOf);

function replace(store: MapStore, cell: CellKey, key: Buffer, id: Buffer): void {
  const before = store.cells.get(cell);
  store.world.hold(id.readUInt32LE(0));
  if (before === undefined) store.setEntryCount(store.entryCount() + 1);
  write(store, cell, key, id);
  store.changed(store.map, key, id);
  if (before !== undefined) store.world.release(valueIn(store.map, before).readUInt32LE(0));
}

function remove(store: MapStore, key: Buffer): void {
  const cell = cellKey(store.map, key);
  const id = valueIn(store.map, store.cells.get(cell) as Buffer).readUInt32LE(0);
  erase(store, cell);
  store.changed(store.map, key, null);
  store.world.release(id);
}

export const hashOfMaps: MapType = {
  ...USUAL,
  facts: FACTS,
  checkBtf: noBtf,
  allocCheck: (attr) => checkValueSize(attr, 4) ?? checkHash(attr, FACTS),
  alloc: (attr, _host, creator) => checkTemplate(attr, creator) ?? checkHashEntries(attr),
  recorded: (attr, _host, creator) => templateOf(attr, creator),
  ...hashMemory(FACTS),

  lookup(store, key) {
    const bytes = store.cells.get(cellKey(store.map, key));
    return bytes === undefined ? ABSENT : valueIn(store.map, bytes);
  },

  update(store, key, value, flags) {
    const inner = innerMap(store, value);
    if (typeof inner !== "number") return inner;
    const cell = cellKey(store.map, key);
    const refusal = checkUpdate(store, store.cells.get(cell) !== undefined, flags, true);
    if (refusal !== null) return refusal;
    const id = u32Buffer(inner);
    replace(store, cell, key, id);
    store.stored(key, id);
    return null;
  },

  delete(store, key) {
    if (store.cells.get(cellKey(store.map, key)) === undefined) return ABSENT;
    remove(store, key);
    return null;
  },

  nextKey,
  lookupAndDelete: noLookupAndDelete,
  batch: { lookup: walk, lookupAndDelete: walk, update: null, delete: null },

  put(store, key, value) {
    replace(store, cellKey(store.map, key), key, value);
  },

  remove,

  free: ({ world }, { value }) => world.release(value.readUInt32LE(0)),

  ...byKey((_store, value) => value),

  *stored(store) {
    for (const cell of cellsOf(store)) yield elementOf(store.map, cell);
  },
};
