/**
 * BPF_MAP_TYPE_SOCKHASH: sockets by key, with SOCKMAP's rules. Source: net/core/sock_map.c. A cell has the socket's id.
 */

import { SOCKHASH_ENTRIES_MAX, SOCKHASH_KEY_BYTES_MAX } from "../abi/limits.ts";
import { ARRAY_FLAGS } from "./array_create.ts";
import {
  checkEntries,
  checkFlags,
  checkUpdateFlags,
  checkValueSize,
  NO_BATCHES,
  noBtf,
  noLookupAndDelete,
  powerOf2,
  roundUp8,
  USUAL,
  u32Buffer,
} from "./common.ts";
import {
  ABSENT,
  byKey,
  cellKey,
  cellsOf,
  checkFull,
  checkPresence,
  elementOf,
  erase,
  nextKey,
  write,
} from "./hash_table.ts";
import type { CreateAttr, MapStore, MapType } from "./map.ts";
import { PLAIN_FACTS, SOCKETS } from "./map_facts.ts";
import { type Refusal, refuse } from "./refusal.ts";
import {
  checkNotInReuseport,
  checkSockmapSocket,
  cookieOf,
  fdIn,
  NO_COOKIE,
  shownSocket,
  socketAt,
} from "./sockets.ts";

/** sizeof(struct bpf_shtab_bucket) and struct bpf_shtab_elem. */
const BUCKET_BYTES = 16;
const ELEMENT_HEAD_BYTES = 48;

function checkSizes(attr: CreateAttr): Refusal | null {
  if (attr.keySize === 0) return refuse("EINVAL", "key_size is 0");
  const refusal = checkEntries(attr) ?? checkValueSize(attr, 4, 8) ?? checkFlags(attr, ARRAY_FLAGS, "a sockhash's");
  if (refusal !== null) return refusal;
  if (attr.keySize > SOCKHASH_KEY_BYTES_MAX)
    return refuse("E2BIG", `key_size is ${attr.keySize}: more than ${SOCKHASH_KEY_BYTES_MAX}`);
  if (attr.maxEntries > SOCKHASH_ENTRIES_MAX)
    return refuse("EINVAL", `max_entries is ${attr.maxEntries}: more than ${SOCKHASH_ENTRIES_MAX}`);
  return null;
}

function put(store: MapStore, key: Buffer, value: Buffer): void {
  const cell = cellKey(store.map, key);
  if (store.cells.get(cell) !== undefined) remove(store, key);
  store.setEntryCount(store.entryCount() + 1);
  write(store, cell, key, value);
  store.world.tie(value.readUInt32LE(0), store.map.id, key);
  store.changed(store.map, key, value);
}

function remove(store: MapStore, key: Buffer): void {
  const cell = cellKey(store.map, key);
  const before = store.cells.get(cell) as Buffer;
  erase(store, cell);
  store.world.untie(before.readUInt32LE(0), store.map.id, key);
  store.changed(store.map, key, null);
}

export const sockhash: MapType = {
  ...USUAL,
  facts: { ...PLAIN_FACTS, ordered: false, value: SOCKETS, capability: "CAP_NET_ADMIN" },
  checkBtf: noBtf,
  allocCheck: () => null,
  alloc: checkSizes,
  allocatedBytes: (attr) => powerOf2(attr.maxEntries) * BUCKET_BYTES,
  preallocated: () => false,
  elementBytes: ({ keySize }) => ELEMENT_HEAD_BYTES + roundUp8(keySize),

  lookup(store, key) {
    if (store.map.valueSize !== 8) return NO_COOKIE;
    const bytes = store.cells.get(cellKey(store.map, key));
    return bytes === undefined ? ABSENT : cookieOf(store, bytes);
  },

  update(store, key, value, flags) {
    const fd = fdIn(value);
    if (typeof fd !== "number") return fd;
    const socket = socketAt(store, fd);
    if (!("id" in socket)) return socket;
    const present = store.cells.get(cellKey(store.map, key)) !== undefined;
    const refusal =
      checkSockmapSocket(socket) ??
      checkUpdateFlags(flags) ??
      checkNotInReuseport(store, socket) ??
      checkPresence(present, flags) ??
      (present ? null : checkFull(store));
    if (refusal !== null) return refusal;
    const id = u32Buffer(socket.id);
    put(store, key, id);
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
  batch: NO_BATCHES,
  put,
  remove,

  free: ({ world, map }, { key, value }) => world.untie(value.readUInt32LE(0), map.id, key),

  ...byKey(shownSocket),

  *stored(store) {
    for (const cell of cellsOf(store)) yield elementOf(store.map, cell);
  },
};
