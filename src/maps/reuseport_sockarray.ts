/** BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: sockets that share a port. Source: kernel/bpf/reuseport_array.c. */

import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { checkArray, DATA_ARRAY_FLAGS } from "./array_create.ts";
import { checkUpdateFlags, checkValueSize, NO_BATCHES, noLookupAndDelete, USUAL, u32Buffer } from "./common.ts";
import { checkPresence } from "./hash_table.ts";
import { SLOT_EMPTY } from "./holder_array.ts";
import { cellAt, checkIndex, indexOf, nextIndex } from "./index_keys.ts";
import type { MapStore, MapType } from "./map.ts";
import { PLAIN_FACTS, SOCKETS } from "./map_facts.ts";
import type { SocketFacts } from "./object.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { cookieOf, fdIn, NO_COOKIE, socketAt, socketSlots } from "./sockets.ts";

function checkKind({ protocol, state, reuseport }: SocketFacts): Refusal | null {
  if (protocol !== "tcp" && protocol !== "udp")
    return refuse("ENOTSUPP", `the socket is ${protocol}: TCP or UDP over IP required`);
  if (state === (protocol === "tcp" ? "listening" : "bound") && reuseport) return null;
  return refuse(
    "EINVAL",
    `the ${protocol} socket is ${state}, ${reuseport ? "with" : "without"} SO_REUSEPORT: listening (tcp) or bound (udp), with SO_REUSEPORT required`,
  );
}

/** The descriptor in a value: a u64 is checked for its range, a u32 is read as an int. */
function fdOf(value: Buffer): number | Refusal {
  return value.length === 8 ? fdIn(value) : value.readInt32LE(0);
}

function isTaken({ world }: MapStore, id: number): boolean {
  return (
    world.isTied(id, BPF_MAP_TYPE.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY) ||
    world.isTied(id, BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKMAP) ||
    world.isTied(id, BPF_MAP_TYPE.BPF_MAP_TYPE_SOCKHASH)
  );
}

export const reuseportSockarray: MapType = {
  ...USUAL,
  ...socketSlots(),
  facts: { ...PLAIN_FACTS, value: SOCKETS },
  allocCheck: (attr) => checkValueSize(attr, 4, 8) ?? checkArray(attr, DATA_ARRAY_FLAGS, "a reuseport array's"),
  alloc: () => null,
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
    const index = indexOf(key);
    const refusal = checkUpdateFlags(flags) ?? checkIndex(store.map, index, "E2BIG");
    if (refusal !== null) return refusal;
    const fd = fdOf(value);
    if (typeof fd !== "number") return fd;
    const socket = socketAt(store, fd);
    if (!("id" in socket)) return socket;
    const unfit = checkPresence(store.cells.get(cellAt(store.map, index)) !== undefined, flags) ?? checkKind(socket);
    if (unfit !== null) return unfit;
    if (isTaken(store, socket.id))
      return refuse("EBUSY", `socket ${socket.id} is already in a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY`);
    const id = u32Buffer(socket.id);
    reuseportSockarray.put(store, key, id);
    store.stored(key, id);
    return null;
  },

  delete(store, key) {
    const index = indexOf(key);
    const outside = checkIndex(store.map, index, "E2BIG");
    if (outside !== null) return outside;
    if (store.cells.get(cellAt(store.map, index)) === undefined) return SLOT_EMPTY;
    reuseportSockarray.remove(store, key);
    return null;
  },

  nextKey: nextIndex,
  lookupAndDelete: noLookupAndDelete,
  batch: NO_BATCHES,
};
