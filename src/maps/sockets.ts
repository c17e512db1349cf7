/**
 * The parts that maps of sockets share. They hold no reference to a socket: when it is closed, its entries are deleted.
 */

import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { u32Buffer } from "./common.ts";
import { objectAt } from "./fd_object.ts";
import { byIndex, cellAt, filled, indexOf } from "./index_keys.ts";
import type { MapStore, MapType } from "./map.ts";
import type { ObjectRecord, SocketFacts } from "./object.ts";
import { type Refusal, refuse } from "./refusal.ts";

type Socket = Extract<ObjectRecord, { kind: "socket" }>;

const FD_MAX = 2 ** 31 - 1;

/** sockfd_lookup(): EBADF, ENOTSOCK. */
export function socketAt(store: MapStore, fd: number): Socket | Refusal {
  return objectAt(store, fd, "socket", "ENOTSOCK");
}

/** The descriptor in a value, a u64 or u32; EINVAL if it is larger than every descriptor. */
export function fdIn(value: Buffer): number | Refusal {
  const fd = value.length === 8 ? value.readBigUInt64LE(0) : BigInt(value.readUInt32LE(0));
  return fd > FD_MAX ? refuse("EINVAL", `fd ${fd}: more than ${FD_MAX}, the largest descriptor`) : Number(fd);
}

/** The SO_COOKIE of the socket whose id is in a cell. */
export function cookieOf(store: MapStore, cell: Buffer): Buffer {
  const { cookie } = store.world.object(cell.readUInt32LE(0)) as SocketFacts;
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(BigInt(cookie), 0);
  return bytes;
}

/**
 * The value that pages of elements show for a cell: the cookie, or the socket's id if value_size is 4, for which
 * lookups are refused.
 */
export function shownSocket(store: MapStore, cell: Buffer): Buffer {
  return store.map.valueSize === 8 ? cookieOf(store, cell) : cell;
}

/** The refusal of lookups if value_size is 4. */
export const NO_COOKIE = refuse("ENOSPC", "value_size is 4: a lookup answers a cookie, which has 8 bytes");

interface SlotHooks {
  readonly filled: (store: MapStore) => void;
  readonly emptied: (store: MapStore) => void;
}

const NO_HOOKS: SlotHooks = { filled() {}, emptied() {} };

/** The part of a row for sockets by index. A filled slot has a cell with the socket's id. */
export function socketSlots(hooks: SlotHooks = NO_HOOKS) {
  /** Empties a slot; does nothing if it is empty, because some of these types' deletes succeed for an empty slot. */
  function remove(store: MapStore, key: Buffer): void {
    const cell = cellAt(store.map, indexOf(key));
    const before = store.cells.get(cell);
    if (before === undefined) return;
    store.cells.delete(cell);
    store.setEntryCount(store.entryCount() - 1);
    store.world.untie(before.readUInt32LE(0), store.map.id, key);
    store.changed(store.map, key, null);
    hooks.emptied(store);
  }

  function put(store: MapStore, key: Buffer, value: Buffer): void {
    const cell = cellAt(store.map, indexOf(key));
    const before = store.cells.get(cell);
    hooks.filled(store);
    if (before !== undefined) remove(store, key);
    store.cells.put(cell, value);
    store.setEntryCount(store.entryCount() + 1);
    store.world.tie(value.readUInt32LE(0), store.map.id, key);
    store.changed(store.map, key, value);
  }

  return {
    put,
    remove,

    free: ({ world, map }, { key, value }) => world.untie(value.readUInt32LE(0), map.id, key),

    ...byIndex(shownSocket),

    *stored(store) {
      for (const [index, value] of filled(store)) yield { key: u32Buffer(index), value };
    },
  } as const satisfies Partial<MapType>;
}

/**
 * sk_psock_init(), net/core/skmsg.c: a socket is either in a REUSEPORT_SOCKARRAY or in sockmaps and sockhashes; its
 * sk_user_data says which.
 */
export function checkNotInReuseport({ world }: MapStore, { id }: Socket): Refusal | null {
  if (!world.isTied(id, BPF_MAP_TYPE.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY)) return null;
  return refuse("EBUSY", `socket ${id} is in a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY`);
}

/** sock_map_sk_is_suitable() and sock_map_sk_state_allowed(), net/core/sock_map.c. */
export function checkSockmapSocket({ id, protocol, state }: Socket): Refusal | null {
  const allowed = {
    tcp: state === "connected" || state === "listening",
    udp: state !== "idle",
    unix_stream: state === "connected",
    unix_dgram: true,
    xsk: false,
  }[protocol];
  return allowed
    ? null
    : refuse("EOPNOTSUPP", `socket ${id} is ${protocol}, ${state}: not allowed in a sockmap or sockhash`);
}
