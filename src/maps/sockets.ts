import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { u32Buffer } from "./common.ts";
import { objectAt } from "./fd_object.ts";
import { byIndex, cellAt, filled, indexOf } from "./index_keys.ts";
import type { MapStore, MapType } from "./map.ts";
import type { ObjectRecord, SocketFacts } from "./object.ts";
import { type Refusal, refuse } from "./refusal.ts";

/** What maps of sockets share. They do not hold a socket: when it is closed, its entries go. */

type Socket = Extract<ObjectRecord, { kind: "socket" }>;

const FD_MAX = 2 ** 31 - 1;

/** sockfd_lookup() of a descriptor's number: EBADF, ENOTSOCK. */
export function socketAt(store: MapStore, fd: number): Socket | Refusal {
  return objectAt(store, fd, "socket", "ENOTSOCK");
}

/** A value as u64, or as u32: a descriptor's number, or EINVAL for what can be none. */
export function fdIn(value: Buffer): number | Refusal {
  const fd = value.length === 8 ? value.readBigUInt64LE(0) : BigInt(value.readUInt32LE(0));
  return fd > FD_MAX ? refuse("EINVAL", `${fd} is more than a descriptor's number can be`) : Number(fd);
}

/** SO_COOKIE of the socket that a cell has the id of. */
export function cookieOf(store: MapStore, cell: Buffer): Buffer {
  const { cookie } = store.world.object(cell.readUInt32LE(0)) as SocketFacts;
  const bytes = Buffer.allocUnsafe(8);
  bytes.writeBigUInt64LE(BigInt(cookie), 0);
  return bytes;
}

/** A cell as elements show it: as lookups do, or where they are refused for good the socket's id. */
export function shownSocket(store: MapStore, cell: Buffer): Buffer {
  return store.map.valueSize === 8 ? cookieOf(store, cell) : cell;
}

/** For lookups: a value of four bytes has no room for a cookie. */
export const NO_COOKIE = refuse("ENOSPC", "value_size is 4: a cookie takes 8");

interface SlotHooks {
  readonly filled: (store: MapStore) => void;
  readonly emptied: (store: MapStore) => void;
}

const NO_HOOKS: SlotHooks = { filled() {}, emptied() {} };

/** Sockets by index: a cell a filled slot, with the socket's id. */
export function socketSlots(hooks: SlotHooks = NO_HOOKS) {
  /** An empty slot is emptied without more ado: some of these types succeed in that. */
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

    freed: ({ world, map }, { key, value }) => world.untie(value.readUInt32LE(0), map.id, key),

    ...byIndex(shownSocket),

    *stored(store) {
      for (const [index, value] of filled(store)) yield { key: u32Buffer(index), value };
    },
  } as const satisfies Partial<MapType>;
}

/** sk_psock_init(), net/core/skmsg.c: a socket belongs to one kind of map, and sk_user_data says to which. */
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
  return allowed ? null : refuse("EOPNOTSUPP", `socket ${id} is ${protocol}, ${state}: it cannot be in such a map`);
}
