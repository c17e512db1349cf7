/**
 * BPF_MAP_TYPE_ARRAY. Source: kernel/bpf/arraymap.c.
 *
 * An index that was ever written has a cell with its value; all other indexes below max_entries exist, too, and are
 * zeros. Through mmap(2), user space can also write the padding of a BPF_F_MMAPABLE array's elements and the rest of
 * its last page. So its cells have the elements with their padding, and one more cell, at index max_entries, has the
 * rest of the page.
 */

import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { ARRAY_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { checkArray, checkArrayBtf, DATA_ARRAY_FLAGS } from "./array_create.ts";
import { byKeys, checkUpdateFlags, noLookupAndDelete, roundUp8, USUAL, u32Buffer } from "./common.ts";
import { cellAt, checkIndex, countWritten, filled, indexAt, indexOf, nextIndex } from "./index_keys.ts";
import type { Host, MapRecord, MapStore, MapType } from "./map.ts";
import { CALLBACKS, LOCKS, PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

const FLAGS = DATA_ARRAY_FLAGS | BPF_F.BPF_F_MMAPABLE | BPF_F.BPF_F_INNER_MAP;
const STAYS = refuse("ENOTSUPP", "the elements of an array cannot be deleted");

export function isMmapable(map: Pick<MapRecord, "mapFlags">): boolean {
  return (map.mapFlags & BPF_F.BPF_F_MMAPABLE) !== 0;
}

function lookup(store: MapStore, key: Buffer): Buffer | Refusal {
  const index = indexOf(key);
  const outside = checkIndex(store.map, index, "ENOENT");
  if (outside !== null) return outside;
  return store.cells.get(cellAt(store.map, index))?.subarray(0, store.map.valueSize) ?? zeros(store.map);
}

function put(store: MapStore, key: Buffer, value: Buffer): void {
  const cell = cellAt(store.map, indexOf(key));
  const before = store.cells.get(cell);
  countWritten(store, before);
  store.cells.put(cell, isMmapable(store.map) ? overlay(before, value, store.map) : value);
  store.changed(store.map, key, value);
}

/** Writes a value over an element, whose padding after the value is kept. */
function overlay(before: Buffer | undefined, value: Buffer, map: MapRecord): Buffer {
  const element = before === undefined ? Buffer.alloc(roundUp8(map.valueSize)) : Buffer.from(before);
  value.copy(element);
  return element;
}

function zeros(map: MapRecord): Buffer {
  return Buffer.alloc(map.valueSize);
}

/** The bytes that mmap(2) can map: the elements with their padding, rounded up to a page. */
export function memoryBytes(map: Pick<MapRecord, "valueSize" | "maxEntries">, host: Host): number {
  return Math.ceil((roundUp8(map.valueSize) * map.maxEntries) / host.pageBytes) * host.pageBytes;
}

/** The elements with their padding, in order: the bytes of which BPF_OBJ_GET_INFO_BY_FD answers the SHA-256. */
export function* memory(store: MapStore): Iterable<Buffer> {
  for (let index = 0; index < store.map.maxEntries; index++) yield elementMemory(store, index);
}

function elementMemory(store: MapStore, index: number): Buffer {
  const stride = roundUp8(store.map.valueSize);
  const bytes = store.cells.get(cellAt(store.map, index));
  if (bytes?.length === stride) return bytes;
  const element = Buffer.alloc(stride);
  bytes?.copy(element);
  return element;
}

/** The elements that a range of memory overlaps; the last may be the rest of the last page, at index max_entries. */
function* pieces(
  store: MapStore,
  offset: number,
  length: number,
): Iterable<{ index: number; start: number; size: number }> {
  const { map, host } = store;
  const stride = roundUp8(map.valueSize);
  const end = offset + length;
  for (let index = Math.min(Math.floor(offset / stride), map.maxEntries); index <= map.maxEntries; index++) {
    const start = index * stride;
    if (start >= end) return;
    yield { index, start, size: index < map.maxEntries ? stride : memoryBytes(map, host) - start };
  }
}

/** Reads a range of memory, which must be within `memoryBytes`. */
export function readMemory(store: MapStore, offset: number, length: number): Buffer {
  const read = Buffer.alloc(length);
  for (const { index, start } of pieces(store, offset, length)) {
    const bytes = store.cells.get(cellAt(store.map, index));
    bytes?.copy(read, Math.max(start - offset, 0), Math.max(offset - start, 0));
  }
  return read;
}

/** Writes to the memory of a BPF_F_MMAPABLE array, within `memoryBytes`. */
export function writeMemory(store: MapStore, offset: number, data: Buffer): void {
  const { map } = store;
  for (const { index, start, size } of pieces(store, offset, data.length)) {
    const cell = cellAt(map, index);
    const piece = Buffer.alloc(size);
    const before = store.cells.get(cell);
    before?.copy(piece);
    if (index < map.maxEntries) countWritten(store, before);
    data.copy(piece, Math.max(offset - start, 0), Math.max(start - offset, 0));
    store.cells.put(cell, piece);
    if (index === map.maxEntries) continue;
    const key = u32Buffer(index);
    const value = piece.subarray(0, map.valueSize);
    store.changed(map, key, value);
    if (isPartly(offset - start, data.length, map.valueSize)) store.stored(key, value);
  }
}

/** Whether a write of `bytes` bytes at `offset` of an element changes a part of its value only. */
function isPartly(offset: number, bytes: number, valueSize: number): boolean {
  const end = offset + bytes;
  return offset < valueSize && end > 0 && (offset > 0 || end < valueSize);
}

export const array: MapType = {
  ...USUAL,
  facts: {
    ...PLAIN_FACTS,
    dense: true,
    offload: true,
    special: [...LOCKS, ...CALLBACKS],
    memory: "values",
    digest: true,
    inner: "same size",
  },
  checkBtf: checkArrayBtf,

  allocCheck(attr) {
    const refusal = checkArray(attr, FLAGS, "an array's");
    if (refusal !== null || attr.valueSize <= ARRAY_VALUE_BYTES_MAX) return refusal;
    return refuse("E2BIG", `value_size is ${attr.valueSize}: more than ${ARRAY_VALUE_BYTES_MAX}`);
  },

  alloc: () => null,

  allocatedBytes(attr, host) {
    return isMmapable(attr) ? memoryBytes(attr, host) : attr.maxEntries * roundUp8(attr.valueSize);
  },

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
    throw new Error("array remove: nothing removes elements of an array");
  },

  cellOf: (map, key) => cellAt(map, indexOf(key)),

  element({ map }, cell, bytes) {
    const index = indexAt(cell);
    if (index >= map.maxEntries) return null;
    return { key: u32Buffer(index), value: bytes?.subarray(0, map.valueSize) ?? zeros(map) };
  },

  *stored(store) {
    for (const [index, bytes] of filled(store))
      if (index < store.map.maxEntries) yield { key: u32Buffer(index), value: bytes.subarray(0, store.map.valueSize) };
  },
};
