import { ARRAY_FLAGS, checkArray } from "./array_create.ts";
import { checkUpdateFlags, checkValueSize, NO_BATCHES, noBtf, noLookupAndDelete, USUAL, u32Buffer } from "./common.ts";
import { checkPresence } from "./hash_table.ts";
import { SLOT_EMPTY } from "./holder_array.ts";
import { cellAt, checkIndex, indexOf, nextIndex } from "./index_keys.ts";
import type { MapType } from "./map.ts";
import { PLAIN_FACTS, SOCKETS } from "./map_facts.ts";
import { refuse } from "./refusal.ts";
import {
  checkNotInReuseport,
  checkSockmapSocket,
  cookieOf,
  fdIn,
  NO_COOKIE,
  socketAt,
  socketSlots,
} from "./sockets.ts";

/** BPF_MAP_TYPE_SOCKMAP: updates take descriptors of sockets, lookups answer cookies. Source: net/core/sock_map.c. */
export const sockmap: MapType = {
  ...USUAL,
  ...socketSlots(),
  facts: { ...PLAIN_FACTS, value: SOCKETS, capability: "CAP_NET_ADMIN" },
  checkBtf: noBtf,
  allocCheck: () => null,
  alloc: (attr) => checkArray(attr, ARRAY_FLAGS, "a sockmap's") ?? checkValueSize(attr, 4, 8),
  allocatedBytes: (attr) => attr.maxEntries * 8,

  lookup(store, key) {
    if (store.map.valueSize !== 8) return NO_COOKIE;
    const index = indexOf(key);
    const outside = checkIndex(store.map, index, "ENOENT");
    if (outside !== null) return outside;
    const bytes = store.cells.get(cellAt(store.map, index));
    return bytes === undefined ? SLOT_EMPTY : cookieOf(store, bytes);
  },

  update(store, key, value, flags) {
    const fd = fdIn(value);
    if (typeof fd !== "number") return fd;
    const socket = socketAt(store, fd);
    if (!("id" in socket)) return socket;
    const index = indexOf(key);
    const refusal =
      checkSockmapSocket(socket) ??
      checkUpdateFlags(flags) ??
      checkIndex(store.map, index, "E2BIG") ??
      checkNotInReuseport(store, socket) ??
      checkPresence(store.cells.get(cellAt(store.map, index)) !== undefined, flags);
    if (refusal !== null) return refusal;
    const id = u32Buffer(socket.id);
    sockmap.put(store, key, id);
    store.stored(key, id);
    return null;
  },

  delete(store, key) {
    const index = indexOf(key);
    const outside = checkIndex(store.map, index, "EINVAL");
    if (outside !== null) return outside;
    if (store.cells.get(cellAt(store.map, index)) === undefined) return refuse("EINVAL", "the slot is empty");
    sockmap.remove(store, key);
    return null;
  },

  nextKey: nextIndex,
  lookupAndDelete: noLookupAndDelete,
  batch: NO_BATCHES,
};
