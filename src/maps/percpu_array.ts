/**
 * BPF_MAP_TYPE_PERCPU_ARRAY. Source: kernel/bpf/arraymap.c. A value has one slot for each CPU, stored with its padding;
 * an index that was never written is zeros.
 */

import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { PERCPU_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { checkArray, checkArrayBtf, DATA_ARRAY_FLAGS } from "./array_create.ts";
import { byKeys, checkUpdateFlags, noLookupAndDelete, perCpuBytes, roundUp8, USUAL, u32Buffer } from "./common.ts";
import { cellAt, checkIndex, countWritten, filled, indexAt, indexOf, nextIndex } from "./index_keys.ts";
import type { MapStore, MapType } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

const STAYS = refuse("ENOTSUPP", "the elements of an array cannot be deleted");
/** NUMA_NO_NODE */
const ANY_NODE = -1;
/** The pointer to an element's per-CPU values. */
const POINTER_BYTES = 8;

function lookup(store: MapStore, key: Buffer): Buffer | Refusal {
  const index = indexOf(key);
  return checkIndex(store.map, index, "ENOENT") ?? valueAt(store, index);
}

function valueAt(store: MapStore, index: number): Buffer {
  return store.cells.get(cellAt(store.map, index)) ?? Buffer.alloc(perCpuBytes(store.map, store.host));
}

function put(store: MapStore, key: Buffer, value: Buffer): void {
  const cell = cellAt(store.map, indexOf(key));
  countWritten(store, store.cells.get(cell));
  store.cells.put(cell, value);
  store.changed(store.map, key, value);
}

export const percpuArray: MapType = {
  ...USUAL,
  facts: { ...PLAIN_FACTS, perCpu: true, dense: true },
  checkBtf: checkArrayBtf,

  allocCheck(attr) {
    const refusal = checkArray(attr, DATA_ARRAY_FLAGS, "a per-CPU array's");
    if (refusal !== null) return refusal;
    if ((attr.mapFlags & BPF_F.BPF_F_NUMA_NODE) !== 0 && attr.numaNode !== ANY_NODE)
      return refuse("EINVAL", "BPF_F_NUMA_NODE: memory for each CPU cannot be on one NUMA node");
    if (roundUp8(attr.valueSize) > PERCPU_VALUE_BYTES_MAX)
      return refuse(
        "E2BIG",
        `value_size is ${attr.valueSize}: a CPU's value has at most ${PERCPU_VALUE_BYTES_MAX} bytes`,
      );
    return null;
  },

  alloc: () => null,
  allocatedBytes: (attr, host) => attr.maxEntries * (POINTER_BYTES + roundUp8(attr.valueSize) * host.possibleCpus),
  valueBytes: perCpuBytes,
  lookup,

  update(store, key, value, flags) {
    const refusal = checkUpdateFlags(flags) ?? checkIndex(store.map, indexOf(key), "E2BIG");
    if (refusal !== null) return refusal;
    if (flags === BPF_ELEM.BPF_NOEXIST)
      return refuse("EEXIST", "BPF_NOEXIST, but every index of an array exists from the start");
    put(store, key, value);
    return null;
  },

  delete: refused("EINVAL", "the elements of an array cannot be deleted"),
  nextKey: nextIndex,
  lookupAndDelete: noLookupAndDelete,
  batch: { lookup: byKeys({ nextKey: nextIndex, lookup }), lookupAndDelete: STAYS, update: null, delete: STAYS },
  put,

  remove() {
    throw new Error("percpu_array remove: nothing removes elements of an array");
  },

  cellOf: (map, key) => cellAt(map, indexOf(key)),

  element({ map, host }, cell, bytes) {
    return { key: u32Buffer(indexAt(cell)), value: bytes ?? Buffer.alloc(perCpuBytes(map, host)) };
  },

  *stored(store) {
    for (const [index, value] of filled(store)) yield { key: u32Buffer(index), value };
  },
};
