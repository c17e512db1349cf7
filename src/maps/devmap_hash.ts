/**
 * BPF_MAP_TYPE_DEVMAP_HASH: interfaces by a key of four bytes. Source: kernel/bpf/devmap.c. Its cells have the same
 * layout as DEVMAP's (xdp_programs.ts).
 */

import { BPF_ELEM } from "../abi/bpf.ts";
import { DEVMAP_HASH_ENTRIES_MAX } from "../abi/limits.ts";
import { checkUpdateFlags, NO_BATCHES, noBtf, noLookupAndDelete, powerOf2, USUAL, u32Buffer } from "./common.ts";
import { checkDevmap, DEVMAP_FACTS, interfaceProgram, readOnlyForPrograms } from "./devmap.ts";
import { ABSENT, byKey, cellKey, cellsOf, checkFull, elementOf, erase, nextKey, write } from "./hash_table.ts";
import type { MapStore, MapType } from "./map.ts";
import { refuse } from "./refusal.ts";
import { holdProgram, releaseProgram, shown } from "./xdp_programs.ts";

/** sizeof(struct bpf_dtab_netdev). */
const ELEMENT_BYTES = 64;

function put(store: MapStore, key: Buffer, value: Buffer): void {
  const cell = cellKey(store.map, key);
  const before = store.cells.get(cell);
  holdProgram(store, value);
  if (before === undefined) store.setEntryCount(store.entryCount() + 1);
  write(store, cell, key, value);
  store.changed(store.map, key, value);
  if (before !== undefined) releaseProgram(store, before);
}

function remove(store: MapStore, key: Buffer): void {
  const cell = cellKey(store.map, key);
  const before = store.cells.get(cell) as Buffer;
  erase(store, cell);
  releaseProgram(store, before);
  store.changed(store.map, key, null);
}

export const devmapHash: MapType = {
  ...USUAL,
  facts: { ...DEVMAP_FACTS, ordered: false },
  checkBtf: noBtf,

  allocCheck(attr) {
    const refusal = checkDevmap(attr);
    if (refusal !== null || attr.maxEntries <= DEVMAP_HASH_ENTRIES_MAX) return refusal;
    return refuse("EINVAL", `max_entries is ${attr.maxEntries}: more than ${DEVMAP_HASH_ENTRIES_MAX}`);
  },

  alloc: () => null,
  recorded: readOnlyForPrograms,
  allocatedBytes: (attr) => powerOf2(attr.maxEntries) * 8,
  preallocated: () => false,
  elementBytes: () => ELEMENT_BYTES,

  lookup(store, key) {
    const cell = store.cells.get(cellKey(store.map, key));
    return cell === undefined ? ABSENT : shown(store, cell);
  },

  update(store, key, value, flags) {
    const ifindex = value.readUInt32LE(0);
    const unknown = checkUpdateFlags(flags);
    if (unknown !== null) return unknown;
    if (ifindex === 0) return refuse("EINVAL", "ifindex is 0");
    const present = store.cells.get(cellKey(store.map, key)) !== undefined;
    if (present && flags === BPF_ELEM.BPF_NOEXIST) return refuse("EEXIST", "BPF_NOEXIST, but an element has this key");
    const program = interfaceProgram(store, value);
    if (typeof program !== "number") return program;
    const full = present ? null : checkFull(store);
    if (full !== null) return full;
    const stored = u32Buffer(ifindex, program);
    put(store, key, stored);
    store.stored(key, stored);
    return null;
  },

  delete(store, key) {
    if (store.cells.get(cellKey(store.map, key)) === undefined) return ABSENT;
    remove(store, key);
    return null;
  },

  nextKey,
  lookupAndDelete: noLookupAndDelete,
  batch: NO_BATCHES,
  put,
  remove,

  free: (store, { value }) => releaseProgram(store, value),

  ...byKey(shown),

  *stored(store) {
    for (const cell of cellsOf(store)) yield elementOf(store.map, cell);
  },
};
