/**
 * BPF_MAP_TYPE_XSKMAP: descriptors of AF_XDP sockets. Source: net/xdp/xskmap.c. Each entry holds a reference to the map
 * itself, so a map without descriptors exists until the sockets in it are closed.
 */

import { ARRAY_FLAGS, checkArray } from "./array_create.ts";
import { checkUpdateFlags, checkValueSize, NO_BATCHES, noBtf, noLookupAndDelete, USUAL, u32Buffer } from "./common.ts";
import { checkPresence } from "./hash_table.ts";
import { cellAt, checkIndex, indexOf, nextIndex } from "./index_keys.ts";
import type { MapType } from "./map.ts";
import { NOT_SHOWN, PLAIN_FACTS } from "./map_facts.ts";
import { refuse, refused } from "./refusal.ts";
import { socketAt, socketSlots } from "./sockets.ts";

export const xskmap: MapType = {
  ...USUAL,
  ...socketSlots({
    filled: ({ world, map }) => world.hold(map.id),
    emptied: ({ world, map }) => world.release(map.id),
  }),
  facts: { ...PLAIN_FACTS, value: NOT_SHOWN, capability: "CAP_NET_ADMIN", inner: "same size" },
  checkBtf: noBtf,
  allocCheck: () => null,
  alloc: (attr) => checkArray(attr, ARRAY_FLAGS, "an xskmap's") ?? checkValueSize(attr, 4),
  allocatedBytes: (attr) => attr.maxEntries * 8,
  lookup: refused("EOPNOTSUPP", "AF_XDP sockets cannot be looked up"),

  update(store, key, value, flags) {
    const index = indexOf(key);
    const refusal = checkUpdateFlags(flags) ?? checkIndex(store.map, index, "E2BIG");
    if (refusal !== null) return refusal;
    const socket = socketAt(store, value.readInt32LE(0));
    if (!("id" in socket)) return socket;
    if (socket.protocol !== "xsk") return refuse("EOPNOTSUPP", `socket ${socket.id} is ${socket.protocol}, not AF_XDP`);
    const id = u32Buffer(socket.id);
    const before = store.cells.get(cellAt(store.map, index));
    const mismatch = before?.equals(id) === true ? null : checkPresence(before !== undefined, flags);
    if (mismatch !== null) return mismatch;
    xskmap.put(store, key, id);
    store.stored(key, id);
    return null;
  },

  delete(store, key) {
    const index = indexOf(key);
    const outside = checkIndex(store.map, index, "EINVAL");
    if (outside !== null) return outside;
    if (store.cells.get(cellAt(store.map, index)) !== undefined) xskmap.remove(store, key);
    return null;
  },

  nextKey: nextIndex,
  lookupAndDelete: noLookupAndDelete,
  batch: NO_BATCHES,
};
