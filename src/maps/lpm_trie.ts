/**
 * BPF_MAP_TYPE_LPM_TRIE. Source: kernel/bpf/lpm_trie.c.
 *
 * A key is a u32 prefixlen in host order, then data, most significant bit first. The kernel walks its trie in
 * post-order: of two nested prefixes the longer comes first; disjoint prefixes come in the order of their bits. Cells
 * have that same order, so that a walk reads a range of cells. A cell's key is: prefix of the map; the data with all
 * bits after the prefix set (the last address that the prefix covers); 65535 - prefixlen in two bytes.
 *
 *   10.0.0.0/9   0a 7f ff ff ff f6
 *   10.1.2.0/24  0a 01 02 ff ff e7   before 10.0.0.0/9: its last address is smaller
 *   10.0.0.0/8   0a ff ff ff ff f7   after both
 *
 * A cell's bytes are the data as given, including the bits after the prefix (GET_NEXT_KEY shows them), then the value.
 */

import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { LPM_KEY_BYTES_MAX, LPM_KEY_BYTES_MIN, LPM_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { DATA_ARRAY_FLAGS } from "./array_create.ts";
import { BTF_KIND } from "./btf_types.ts";
import { afterKey, afterPrefix, type Cell, type CellKey, firstIn } from "./cells.ts";
import { byKeys, checkFlags, elementsPrefix, USUAL } from "./common.ts";
import type { Element, MapRecord, MapStore, MapType } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";

const TRIE_FLAGS = DATA_ARRAY_FLAGS | BPF_F.BPF_F_NO_PREALLOC;

const PREFIXLEN_BYTES = 4;
/** sizeof(struct lpm_trie_node). */
const NODE_HEAD_BYTES = 24;
const ORDER_BYTES = 2;
const ORDER_MAX = 65535;

const NO_MATCH = refuse("ENOENT", "no prefix in the trie covers this key");
const ABSENT = refuse("ENOENT", "the trie has no such prefix");
const EMPTY = refuse("ENOENT", "the trie is empty");
const LAST = refuse("ENOENT", "this was the last prefix");
const PRESENT = refuse("EEXIST", "BPF_NOEXIST, but the trie has this prefix");
const STAYS = refuse("ENOTSUPP", "BPF_MAP_LOOKUP_AND_DELETE_BATCH is not allowed for an LPM trie");

function dataBytes(map: MapRecord): number {
  return map.keySize - PREFIXLEN_BYTES;
}

function prefixlenOf(key: Buffer): number {
  return key.readUInt32LE(0);
}

function tooLong(map: MapRecord, key: Buffer): Refusal | null {
  const most = dataBytes(map) * 8;
  const bits = prefixlenOf(key);
  return bits > most ? refuse("EINVAL", `prefixlen is ${bits}: more than the ${most} bits of the key`) : null;
}

/** The key of the cell for the first `bits` bits of a key's data. */
function cellKey(map: MapRecord, key: Buffer, bits: number): CellKey {
  const whole = bits >> 3;
  let data = key.toString("latin1", PREFIXLEN_BYTES, PREFIXLEN_BYTES + whole);
  if ((bits & 7) !== 0) data += String.fromCharCode((key[PREFIXLEN_BYTES + whole] as number) | (255 >> (bits & 7)));
  const order = ORDER_MAX - bits;
  return elementsPrefix(map) + data.padEnd(dataBytes(map), "\xff") + String.fromCharCode(order >> 8, order & 255);
}

function cellPrefixlen(cell: CellKey): number {
  const at = cell.length - ORDER_BYTES;
  return ORDER_MAX - ((cell.charCodeAt(at) << 8) | cell.charCodeAt(at + 1));
}

function elementOf(map: MapRecord, [cell, bytes]: Cell): Element {
  const key = Buffer.allocUnsafe(map.keySize);
  key.writeUInt32LE(cellPrefixlen(cell), 0);
  bytes.copy(key, PREFIXLEN_BYTES, 0, dataBytes(map));
  return { key, value: bytes.subarray(dataBytes(map)) };
}

/** The number of leading bits, at most `most`, that stored data and a key have in common. */
function commonBits(stored: Buffer, key: Buffer, most: number): number {
  for (let at = 0; at * 8 < most; at++) {
    const differing = (stored[at] as number) ^ (key[PREFIXLEN_BYTES + at] as number);
    if (differing !== 0) return Math.min(most, at * 8 + Math.clz32(differing) - 24);
  }
  return most;
}

/**
 * Finds the longest prefix that covers the key. In the order of cells, all prefixes that cover the key come at or after
 * the key's own place, the longest first. So seek to that place. If the prefix found there does not cover the key, it
 * shares only the first `bits` bits with the key, so a covering prefix has at most that length: seek to the place of
 * those bits, and so on.
 */
function lookup(store: MapStore, key: Buffer): Buffer | Refusal {
  let bits = prefixlenOf(key);
  if (tooLong(store.map, key) !== null) return NO_MATCH;
  const end = afterPrefix(elementsPrefix(store.map));
  for (;;) {
    const found = firstIn(store.cells, cellKey(store.map, key, bits), end);
    if (found === undefined) return NO_MATCH;
    const length = cellPrefixlen(found[0]);
    const common = commonBits(found[1], key, Math.min(length, bits));
    if (common === length) return found[1].subarray(dataBytes(store.map));
    bits = common;
  }
}

function nextKey(store: MapStore, key: Buffer | null): Buffer | Refusal {
  const prefix = elementsPrefix(store.map);
  const end = afterPrefix(prefix);
  if (key !== null && tooLong(store.map, key) === null) {
    const cell = cellKey(store.map, key, prefixlenOf(key));
    if (store.cells.get(cell) !== undefined) {
      const next = firstIn(store.cells, afterKey(cell), end);
      return next === undefined ? LAST : elementOf(store.map, next).key;
    }
  }
  const first = firstIn(store.cells, prefix, end);
  return first === undefined ? EMPTY : elementOf(store.map, first).key;
}

/**
 * Notes in the event the key under which the element was stored, if its bits after the prefix differ from those of the
 * given key.
 */
function noteKey(store: MapStore, cell: CellKey, bytes: Buffer, key: Buffer): void {
  if (bytes.compare(key, PREFIXLEN_BYTES, key.length, 0, dataBytes(store.map)) !== 0)
    store.knownAs(elementOf(store.map, [cell, bytes]).key);
}

function write(store: MapStore, cell: CellKey, key: Buffer, value: Buffer): void {
  store.cells.put(cell, Buffer.concat([key.subarray(PREFIXLEN_BYTES), value]));
  store.changed(store.map, key, value);
}

function remove(store: MapStore, key: Buffer): void {
  store.cells.delete(cellKey(store.map, key, prefixlenOf(key)));
  store.setEntryCount(store.entryCount() - 1);
  store.changed(store.map, key, null);
}

export const lpmTrie: MapType = {
  ...USUAL,
  facts: PLAIN_FACTS,

  /** trie_check_btf() */
  checkBtf(_attr, key) {
    return key?.kind === BTF_KIND.STRUCT ? null : refuse("EINVAL", "the key's BTF type is not a struct");
  },

  allocCheck: () => null,

  alloc(attr) {
    if (attr.maxEntries === 0) return refuse("EINVAL", "max_entries is 0");
    if ((attr.mapFlags & BPF_F.BPF_F_NO_PREALLOC) === 0)
      return refuse("EINVAL", "BPF_F_NO_PREALLOC is required in a trie's map_flags");
    const flags = checkFlags(attr, TRIE_FLAGS, "a trie's");
    if (flags !== null) return flags;
    if (attr.keySize < LPM_KEY_BYTES_MIN || attr.keySize > LPM_KEY_BYTES_MAX)
      return refuse(
        "EINVAL",
        `key_size is ${attr.keySize}: ${LPM_KEY_BYTES_MIN} to ${LPM_KEY_BYTES_MAX} allowed for a trie`,
      );
    if (attr.valueSize < 1 || attr.valueSize > LPM_VALUE_BYTES_MAX)
      return refuse("EINVAL", `value_size is ${attr.valueSize}: 1 to ${LPM_VALUE_BYTES_MAX} allowed for a trie`);
    return null;
  },

  allocatedBytes: () => 0,
  preallocated: () => false,
  elementBytes: ({ keySize, valueSize }) => NODE_HEAD_BYTES + keySize - PREFIXLEN_BYTES + valueSize,

  valueBytes(map) {
    return map.valueSize;
  },

  lookup,

  update(store, key, value, flags) {
    if (flags > BPF_ELEM.BPF_EXIST)
      return refuse("EINVAL", `flags ${flags}: BPF_ANY, BPF_NOEXIST or BPF_EXIST required`);
    const long = tooLong(store.map, key);
    if (long !== null) return long;
    const cell = cellKey(store.map, key, prefixlenOf(key));
    const before = store.cells.get(cell);
    if (before !== undefined && flags === BPF_ELEM.BPF_NOEXIST) return PRESENT;
    if (before === undefined && flags === BPF_ELEM.BPF_EXIST)
      return refuse("ENOENT", "BPF_EXIST, but the trie has no such prefix");
    if (before !== undefined) noteKey(store, cell, before, key);
    else {
      const count = store.entryCount();
      const most = store.map.maxEntries;
      if (count >= most) return refuse("ENOSPC", `trie is full: ${count} of ${most} entries`);
      const growth = store.growth();
      if (growth !== null) return growth;
      store.setEntryCount(count + 1);
    }
    write(store, cell, key, value);
    return null;
  },

  delete(store, key) {
    const long = tooLong(store.map, key);
    if (long !== null) return long;
    const cell = cellKey(store.map, key, prefixlenOf(key));
    const bytes = store.cells.get(cell);
    if (bytes === undefined) return ABSENT;
    noteKey(store, cell, bytes, key);
    remove(store, key);
    return null;
  },

  nextKey,

  lookupAndDelete: refused("ENOTSUPP", "BPF_MAP_LOOKUP_AND_DELETE_ELEM is not allowed for an LPM trie"),

  batch: { lookup: byKeys({ nextKey, lookup }), lookupAndDelete: STAYS, update: null, delete: null },

  put(store, key, value) {
    const cell = cellKey(store.map, key, prefixlenOf(key));
    if (store.cells.get(cell) === undefined) store.setEntryCount(store.entryCount() + 1);
    write(store, cell, key, value);
  },

  remove,
  cellOf: (map, key) => cellKey(map, key, prefixlenOf(key)),
  element: ({ map }, cell, bytes) => (bytes === undefined ? null : elementOf(map, [cell, bytes])),

  *stored(store) {
    const prefix = elementsPrefix(store.map);
    for (const cell of store.cells.range(prefix, afterPrefix(prefix))) yield elementOf(store.map, cell);
  },
};
