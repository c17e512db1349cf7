/**
 * Arrays of descriptors: bpf_fd_array_map_update_elem() and its neighbours, kernel/bpf/arraymap.c. The cell of a filled
 * slot begins with the id (u32) of the map or object that the slot refers to.
 */

import { BPF_ELEM } from "../abi/bpf.ts";
import { checkArray } from "./array_create.ts";
import { checkValueSize, NO_BATCHES, noLookupAndDelete, USUAL, u32Buffer } from "./common.ts";
import { byIndex, cellAt, checkIndex, filled, indexOf, nextIndex } from "./index_keys.ts";
import type { CreateAttr, MapStore, MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

interface Holder {
  /**
   * The bytes to store for a value's descriptor: the id of the map or object, and further bytes that the type keeps.
   */
  readonly resolve: (store: MapStore, fd: number) => Buffer | Refusal;
  readonly hold: (store: MapStore, id: number) => void;
  readonly release: (store: MapStore, id: number) => void;
}

export const SLOT_EMPTY = refuse("ENOENT", "the slot is empty");

export function checkHolderArray(attr: CreateAttr, flags: number, whose: string): Refusal | null {
  return checkArray(attr, flags, whose) ?? checkValueSize(attr, 4);
}

/** The bytes that a slot's cell has; ENOENT if the slot is empty or its index too large. */
export function heldAt(store: MapStore, key: Buffer): Buffer | Refusal {
  const index = indexOf(key);
  return checkIndex(store.map, index, "ENOENT") ?? store.cells.get(cellAt(store.map, index)) ?? SLOT_EMPTY;
}

/** The methods that the rows of these types share; each row adds its lookup and the checks of a creation. */
export function holderArray({ resolve, hold, release }: Holder) {
  function put(store: MapStore, key: Buffer, value: Buffer): void {
    const cell = cellAt(store.map, indexOf(key));
    const before = store.cells.get(cell);
    hold(store, value.readUInt32LE(0));
    store.cells.put(cell, value);
    if (before === undefined) store.setEntryCount(store.entryCount() + 1);
    store.changed(store.map, key, value);
    if (before !== undefined) release(store, before.readUInt32LE(0));
  }

  function remove(store: MapStore, key: Buffer): void {
    const cell = cellAt(store.map, indexOf(key));
    const before = store.cells.get(cell) as Buffer;
    store.cells.delete(cell);
    store.setEntryCount(store.entryCount() - 1);
    store.changed(store.map, key, null);
    release(store, before.readUInt32LE(0));
  }

  return {
    ...USUAL,

    update(store, key, value, flags) {
      if (flags !== BPF_ELEM.BPF_ANY) return refuse("EINVAL", `flags ${flags}: only BPF_ANY is allowed`);
      const outside = checkIndex(store.map, indexOf(key), "E2BIG");
      if (outside !== null) return outside;
      const held = resolve(store, value.readInt32LE(0));
      if (!Buffer.isBuffer(held)) return held;
      put(store, key, held);
      store.stored(key, held);
      return null;
    },

    delete(store, key) {
      const index = indexOf(key);
      const outside = checkIndex(store.map, index, "E2BIG");
      if (outside !== null) return outside;
      if (store.cells.get(cellAt(store.map, index)) === undefined) return SLOT_EMPTY;
      remove(store, key);
      return null;
    },

    nextKey: nextIndex,
    lookupAndDelete: noLookupAndDelete,
    batch: NO_BATCHES,
    put,
    remove,

    free: (store, { value }) => release(store, value.readUInt32LE(0)),

    ...byIndex((_store, bytes) => bytes.subarray(0, 4)),

    *stored(store) {
      for (const [index, value] of filled(store)) yield { key: u32Buffer(index), value };
    },
  } as const satisfies Partial<MapType>;
}
