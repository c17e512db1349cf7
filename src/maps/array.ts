import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { ARRAY_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { afterPrefix, readU32Key, u32Key } from "./cells.ts";
import { byKeys, checkAccessFlags, elementsPrefix } from "./common.ts";
import type { Element, MapRecord, MapStore, MapType } from "./map.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

/**
 * BPF_MAP_TYPE_ARRAY. Source: kernel/bpf/arraymap.c.
 *
 * A cell an index that was ever written: prefix of the map, index (most significant byte first, to walk in order); the
 * value as it is. All other indices below max_entries exist, too: they are zeros.
 */
const ARRAY_FLAGS =
  BPF_F.BPF_F_MMAPABLE |
  BPF_F.BPF_F_INNER_MAP |
  BPF_F.BPF_F_NUMA_NODE |
  BPF_F.BPF_F_RDONLY |
  BPF_F.BPF_F_WRONLY |
  BPF_F.BPF_F_RDONLY_PROG |
  BPF_F.BPF_F_WRONLY_PROG;

const INDEX_BYTES = 4;
const STAYS = refuse("ENOTSUPP", "the elements of an array cannot be deleted");

function lookup(store: MapStore, key: Buffer): Buffer | Refusal {
  const index = key.readUInt32LE(0);
  if (index >= store.map.maxEntries) return refuse("ENOENT", outside(store.map, index));
  return store.cells.get(elementsPrefix(store.map) + u32Key(index)) ?? zeros(store.map);
}

function nextKey(store: MapStore, key: Buffer | null): Buffer | Refusal {
  const index = key === null ? store.map.maxEntries : key.readUInt32LE(0);
  if (index >= store.map.maxEntries) return indexKey(0);
  if (index === store.map.maxEntries - 1) return refuse("ENOENT", `${index} is the last index`);
  return indexKey(index + 1);
}

function put(store: MapStore, key: Buffer, value: Buffer): void {
  store.cells.put(elementsPrefix(store.map) + u32Key(key.readUInt32LE(0)), value);
  store.changed(store.map, key, value);
}

function* elements(store: MapStore, after: Buffer | null): Iterable<Element> {
  let index = after === null ? 0 : after.readUInt32LE(0) + 1;
  const prefix = elementsPrefix(store.map);
  for (const [cell, value] of store.cells.range(prefix + u32Key(index), afterPrefix(prefix))) {
    const written = readU32Key(cell, prefix.length);
    for (; index < written; index++) yield { key: indexKey(index), value: zeros(store.map) };
    yield { key: indexKey(index++), value };
  }
  for (; index < store.map.maxEntries; index++) yield { key: indexKey(index), value: zeros(store.map) };
}

/** Bytes from one element to the next, in the kernel's memory. */
function strideBytes(valueSize: number): number {
  return Math.ceil(valueSize / 8) * 8;
}

function outside(map: MapRecord, index: number): string {
  return `index ${index} is outside: the array has ${map.maxEntries} entries`;
}

function indexKey(index: number): Buffer {
  const key = Buffer.allocUnsafe(INDEX_BYTES);
  key.writeUInt32LE(index, 0);
  return key;
}

function zeros(map: MapRecord): Buffer {
  return Buffer.alloc(map.valueSize);
}

/** SHA-256 is over all elements at their stride, padding included: what BPF_OBJ_GET_INFO_BY_FD gives as `hash`. */
export function* memory(store: MapStore): Iterable<Buffer> {
  const padding = Buffer.alloc(strideBytes(store.map.valueSize) - store.map.valueSize);
  for (const { value } of elements(store, null)) {
    yield value;
    yield padding;
  }
}

export const array: MapType = {
  first(attr) {
    if (attr.maxEntries === 0) return refuse("EINVAL", "max_entries is 0");
    if (attr.keySize !== INDEX_BYTES) return refuse("EINVAL", `key_size is ${attr.keySize}: an array's is 4`);
    if (attr.valueSize === 0) return refuse("EINVAL", "value_size is 0");
    if ((attr.mapFlags & ~ARRAY_FLAGS) !== 0)
      return refuse("EINVAL", `map_flags ${attr.mapFlags}: not all of them are an array's`);
    const access = checkAccessFlags(attr.mapFlags);
    if (access !== null) return access;
    if (attr.valueSize > ARRAY_VALUE_BYTES_MAX)
      return refuse("E2BIG", `value_size is ${attr.valueSize}: more than ${ARRAY_VALUE_BYTES_MAX}`);
    return null;
  },

  second() {
    return null;
  },

  allocatedBytes(attr, host) {
    const bytes = attr.maxEntries * strideBytes(attr.valueSize);
    if ((attr.mapFlags & BPF_F.BPF_F_MMAPABLE) === 0) return bytes;
    return Math.ceil(bytes / host.pageBytes) * host.pageBytes;
  },

  valueBytes(map) {
    return map.valueSize;
  },

  lookup,

  update(store, key, value, flags) {
    if (flags > BPF_ELEM.BPF_EXIST)
      return refuse("EINVAL", `flags ${flags}: an array takes BPF_ANY, BPF_NOEXIST or BPF_EXIST`);
    const index = key.readUInt32LE(0);
    if (index >= store.map.maxEntries) return refuse("E2BIG", outside(store.map, index));
    if (flags === 1n) return refuse("EEXIST", "BPF_NOEXIST, but every index of an array exists from the start");
    put(store, key, value);
    return null;
  },

  delete: refused("EINVAL", "the elements of an array cannot be deleted"),

  nextKey,

  take: refused("ENOTSUPP", "the elements of an array cannot be taken out"),

  batch: { lookup: byKeys({ nextKey, lookup }), lookupAndDelete: STAYS, update: null, delete: STAYS },

  put,

  remove() {
    throw new Error("array remove: nothing removes elements of an array");
  },

  elements,

  *stored(store) {
    const prefix = elementsPrefix(store.map);
    for (const [cell, value] of store.cells.range(prefix, afterPrefix(prefix)))
      yield { key: indexKey(readU32Key(cell, prefix.length)), value };
  },
};
