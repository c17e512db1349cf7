/**
 * Local storage: values that belong to a socket, an inode, a task or a cgroup. Source: kernel/bpf/bpf_local_storage.c.
 * A key is a descriptor of the object; the cell's key has the object's id. The element is deleted together with the
 * object.
 */

import { BPF_F } from "../abi/bpf.ts";
import { STORAGE_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { isInteger } from "./btf_types.ts";
import {
  checkFlags,
  checkKeySize,
  checkNoEntries,
  checkUpdateFlags,
  NO_BATCHES,
  noLookupAndDelete,
  roundUp8,
  USUAL,
  u32Buffer,
} from "./common.ts";
import { checkPresence } from "./hash_table.ts";
import { byIndex, cellAt, filled } from "./index_keys.ts";
import type { CreateAttr, MapStore, MapType } from "./map.ts";
import { LOCKS, type MapFacts, PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

const FLAGS = BPF_F.BPF_F_NO_PREALLOC | BPF_F.BPF_F_CLONE;
/** sizeof(struct bpf_local_storage_elem), before its value. */
const ELEMENT_HEAD_BYTES = 128;
const ABSENT = refuse("ENOENT", "the object has no element in this map");

/** bpf_local_storage_map_alloc_check() */
function checkStorage(attr: CreateAttr): Refusal | null {
  const refusal = checkFlags(attr, FLAGS, "local storage's");
  if (refusal !== null) return refusal;
  if ((attr.mapFlags & BPF_F.BPF_F_NO_PREALLOC) === 0)
    return refuse("EINVAL", "BPF_F_NO_PREALLOC is required in local storage's map_flags");
  const sizes = checkNoEntries(attr) ?? checkKeySize(attr, 4);
  if (sizes !== null) return sizes;
  if (attr.valueSize === 0) return refuse("EINVAL", "value_size is 0");
  if (attr.btfKeyTypeId === 0 || attr.btfValueTypeId === 0)
    return refuse("EINVAL", "btf_key_type_id and btf_value_type_id are required for local storage");
  if (attr.valueSize > STORAGE_VALUE_BYTES_MAX)
    return refuse("E2BIG", `value_size is ${attr.valueSize}: more than ${STORAGE_VALUE_BYTES_MAX}`);
  return null;
}

function put(store: MapStore, key: Buffer, value: Buffer): void {
  const object = key.readUInt32LE(0);
  const cell = cellAt(store.map, object);
  if (store.cells.get(cell) === undefined) {
    store.setEntryCount(store.entryCount() + 1);
    store.world.tie(object, store.map.id, key);
  }
  store.cells.put(cell, value);
  store.changed(store.map, key, value);
}

function remove(store: MapStore, key: Buffer): void {
  const object = key.readUInt32LE(0);
  store.cells.delete(cellAt(store.map, object));
  store.setEntryCount(store.entryCount() - 1);
  store.world.untie(object, store.map.id, key);
  store.changed(store.map, key, null);
}

/** The row of a local storage. `owner`: finds the object's id for a descriptor of `keyFd`. */
export function localStorage(
  keyFd: MapFacts["keyFd"],
  owner: (store: MapStore, fd: number) => number | Refusal,
): MapType {
  return {
    ...USUAL,
    facts: { ...PLAIN_FACTS, keyFd, special: LOCKS },

    checkBtf(_attr, key) {
      return isInteger(key, 32) ? null : refuse("EINVAL", "the key's BTF type is not an integer of 32 bits");
    },

    allocCheck: checkStorage,
    alloc: () => null,
    preallocated: () => false,
    elementBytes: ({ valueSize }) => ELEMENT_HEAD_BYTES + roundUp8(valueSize),

    lookup(store, key) {
      const object = owner(store, key.readInt32LE(0));
      if (typeof object !== "number") return object;
      return store.cells.get(cellAt(store.map, object)) ?? ABSENT;
    },

    update(store, key, value, flags) {
      const object = owner(store, key.readInt32LE(0));
      if (typeof object !== "number") return object;
      const present = store.cells.get(cellAt(store.map, object)) !== undefined;
      const refusal = checkUpdateFlags(flags) ?? checkPresence(present, flags) ?? (present ? null : store.growth());
      if (refusal !== null) return refusal;
      const id = u32Buffer(object);
      put(store, id, value);
      store.stored(id, null);
      return null;
    },

    delete(store, key) {
      const object = owner(store, key.readInt32LE(0));
      if (typeof object !== "number") return object;
      if (store.cells.get(cellAt(store.map, object)) === undefined) return ABSENT;
      const id = u32Buffer(object);
      remove(store, id);
      store.stored(id, null);
      return null;
    },

    nextKey: refused("ENOTSUPP", "local storage has no keys to walk"),
    lookupAndDelete: noLookupAndDelete,
    batch: NO_BATCHES,
    put,
    remove,

    free: ({ world, map }, { key }) => world.untie(key.readUInt32LE(0), map.id, key),

    ...byIndex((_store, value) => value),

    *stored(store) {
      for (const [object, value] of filled(store)) yield { key: u32Buffer(object), value };
    },
  };
}
