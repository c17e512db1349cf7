import { createHash } from "node:crypto";
import { SESSION_FDS_MAX } from "../abi/limits.ts";
import { afterPrefix, bytesKey, type CellKey, type Cells, readU32Key, u32Key } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import type { Host, MapRecord, MapStore, MapType } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import { jsonCodec, numberCodec, type RowCodec, Table } from "./table.ts";

export interface SessionRecord {
  readonly id: number;
  readonly name: string;
  readonly caller: string;
  readonly ttlMs: number;
  readonly openedUs: number;
}

/** An open file: what a descriptor refers to. Duplicates share `file`. */
export interface FdRecord {
  readonly kind: "map" | "pipe" | "file";
  readonly file: number;
  /** The map's id, 0 where the file is none. */
  readonly map: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

export interface PinRecord {
  readonly pathname: string;
  readonly map: number;
}

/** Who follows what the commands do: the mirror. */
export interface Follower {
  created(map: MapRecord): void;
  changed(map: MapRecord, key: Buffer, value: Buffer | null): void;
  frozen(map: MapRecord): void;
  freed(map: MapRecord): void;
  pinned(map: MapRecord, pathname: string): void;
  unpinned(pathname: string): void;
  directoryMade(pathname: string): void;
  directoryRemoved(pathname: string): void;
}

const mapCodec: RowCodec<MapRecord> = {
  encode: (map) => Buffer.from(JSON.stringify({ ...map, mapExtra: String(map.mapExtra) })),
  decode(bytes) {
    const row = JSON.parse(bytes.toString());
    return { ...row, mapExtra: BigInt(row.mapExtra) };
  },
};

/**
 * Everything that the log adds up to, as tables over cells. One letter a table:
 *
 *     c  counters: last map id, last session id, last open file
 *     s  session id                   -> session
 *     f  session id, fd               -> open file
 *     m  map id                       -> map
 *     n  map id                       -> number of its elements
 *     r  map id                       -> how many descriptors, pins and outer maps hold it
 *     k  name, 0, map id              -> (nothing): maps by name
 *     p  pathname                     -> a pin of bpffs: which map
 *     d  pathname                     -> a directory of bpffs
 *     g  map id                       -> (nothing): freed, but its elements are not reclaimed yet
 *     e  map id, ...                  -> elements, as the map's type lays them out
 */
export class State {
  readonly cells: Cells;
  readonly host: Host;
  readonly follower: Follower;
  readonly sessions: Table<SessionRecord>;
  readonly maps: Table<MapRecord>;
  readonly #pins: Table<PinRecord>;
  readonly #directories: Table<{ readonly pathname: string }>;
  readonly #counters: Table<number>;
  readonly #fds: Table<FdRecord>;
  readonly #entryCounts: Table<number>;
  readonly #holds: Table<number>;

  constructor(cells: Cells, host: Host, follower: Follower) {
    this.cells = cells;
    this.host = host;
    this.follower = follower;
    this.sessions = new Table(cells, "s", jsonCodec());
    this.maps = new Table(cells, "m", mapCodec);
    this.#pins = new Table(cells, "p", jsonCodec());
    this.#directories = new Table(cells, "d", jsonCodec());
    this.#counters = new Table(cells, "c", numberCodec);
    this.#fds = new Table(cells, "f", jsonCodec());
    this.#entryCounts = new Table(cells, "n", numberCodec);
    this.#holds = new Table(cells, "r", numberCodec);
  }

  /** After the cells went back to an earlier state. */
  forget(): void {
    this.sessions.forget();
    this.maps.forget();
    this.#pins.forget();
    this.#directories.forget();
    this.#counters.forget();
    this.#fds.forget();
    this.#entryCounts.forget();
    this.#holds.forget();
  }

  // Counters: what was given out last is never given out again.

  lastId(counter: "map" | "session" | "file"): number {
    return this.#counters.get(counter) ?? 0;
  }

  usedId(counter: "map" | "session" | "file", id: number): void {
    if (id > this.lastId(counter)) this.#counters.put(counter, id);
  }

  // Sessions and their descriptors.

  session(id: number): SessionRecord | undefined {
    return this.sessions.get(u32Key(id));
  }

  fd(session: number, fd: number): FdRecord | undefined {
    return fd < 0 ? undefined : this.#fds.get(u32Key(session) + u32Key(fd));
  }

  *fds(session: number): Iterable<readonly [fd: number, file: FdRecord]> {
    for (const [key, file] of this.#fds.under(u32Key(session))) yield [readU32Key(key, 4), file];
  }

  /** The lowest number from 3 that is free in the session, or undefined: EMFILE. */
  freeFd(session: number): number | undefined {
    let free = 3;
    for (const [fd] of this.fds(session)) {
      if (fd !== free) break;
      free++;
    }
    return free < SESSION_FDS_MAX ? free : undefined;
  }

  openFd(session: number, fd: number, file: FdRecord): void {
    this.#fds.put(u32Key(session) + u32Key(fd), file);
    this.usedId("file", file.file);
    if (file.map !== 0) this.hold(file.map);
  }

  /** Closes a descriptor and answers the maps that went with it. */
  closeFd(session: number, fd: number): number[] {
    const file = this.fd(session, fd);
    if (file === undefined) return [];
    this.#fds.delete(u32Key(session) + u32Key(fd));
    return file.map === 0 ? [] : this.release(file.map);
  }

  // Maps.

  map(id: number): MapRecord | undefined {
    return this.maps.get(u32Key(id));
  }

  /** The smallest id above `id` that a map has. */
  mapAfter(id: number): number | undefined {
    for (const [, map] of this.maps.from(u32Key(id + 1))) return map.id;
    return undefined;
  }

  mapsNamed(name: string): number[] {
    const prefix = `k${nameKey(name)}`;
    return [...this.cells.range(prefix, afterPrefix(prefix))].map(([key]) => readU32Key(key, prefix.length));
  }

  createMap(map: MapRecord): void {
    this.maps.put(u32Key(map.id), map);
    this.#entryCounts.put(u32Key(map.id), 0);
    this.cells.put(`k${nameKey(map.name)}${u32Key(map.id)}`, NOTHING);
    this.usedId("map", map.id);
    this.follower.created(map);
  }

  freezeMap(map: MapRecord): void {
    const frozen = { ...map, frozen: true };
    this.maps.put(u32Key(map.id), frozen);
    this.follower.frozen(frozen);
  }

  entryCount(id: number): number {
    return this.#entryCounts.get(u32Key(id)) ?? 0;
  }

  setEntryCount(id: number, count: number): void {
    this.#entryCounts.put(u32Key(id), count);
  }

  holds(id: number): number {
    return this.#holds.get(u32Key(id)) ?? 0;
  }

  hold(id: number): void {
    this.#holds.put(u32Key(id), this.holds(id) + 1);
  }

  /** Lets go of a map; answers it where that was the last hold: its id is gone, its elements are reclaimed later. */
  release(id: number): number[] {
    const holds = this.holds(id) - 1;
    if (holds > 0) {
      this.#holds.put(u32Key(id), holds);
      return [];
    }
    const map = this.map(id) as MapRecord;
    this.#holds.delete(u32Key(id));
    this.maps.delete(u32Key(id));
    this.#entryCounts.delete(u32Key(id));
    this.cells.delete(`k${nameKey(map.name)}${u32Key(id)}`);
    this.cells.put(`g${u32Key(id)}`, NOTHING);
    this.follower.freed(map);
    return [id];
  }

  /** Removes elements of freed maps, at most `limit` of them; answers whether any may be left. */
  reclaim(limit: number): boolean {
    const garbage = [...this.cells.range("g", afterPrefix("g"))].map(([key]) => key);
    let left = limit;
    for (const key of garbage) {
      const prefix = elementsPrefix({ id: readU32Key(key, 1) });
      const cells: CellKey[] = [];
      for (const [cell] of this.cells.range(prefix, afterPrefix(prefix))) {
        if (left-- === 0) break;
        cells.push(cell);
      }
      for (const cell of cells) this.cells.delete(cell);
      if (left < 0) return true;
      this.cells.delete(key);
    }
    return false;
  }

  // Pins and directories of bpffs, by their canonical path.

  pin(map: MapRecord, pathname: string): void {
    this.#pins.put(pathKey(pathname), { pathname, map: map.id });
    this.hold(map.id);
    this.follower.pinned(map, pathname);
  }

  pinAt(pathname: string): number | undefined {
    return this.#pins.get(pathKey(pathname))?.map;
  }

  unpin(pathname: string): number[] {
    const id = this.pinAt(pathname) as number;
    this.#pins.delete(pathKey(pathname));
    this.follower.unpinned(pathname);
    return this.release(id);
  }

  isDirectory(pathname: string): boolean {
    return this.#directories.get(pathKey(pathname)) !== undefined;
  }

  makeDirectory(pathname: string): void {
    this.#directories.put(pathKey(pathname), { pathname });
    this.follower.directoryMade(pathname);
  }

  removeDirectory(pathname: string): void {
    this.#directories.delete(pathKey(pathname));
    this.follower.directoryRemoved(pathname);
  }

  /** Whether any pin or directory stands below. */
  hasEntries(pathname: string): boolean {
    const below = `${pathname}/`;
    for (const pin of this.pinned()) if (pin.pathname.startsWith(below)) return true;
    for (const directory of this.directories()) if (directory.startsWith(below)) return true;
    return false;
  }

  *pinned(): Iterable<PinRecord> {
    for (const [, pin] of this.#pins.from("")) yield pin;
  }

  *directories(): Iterable<string> {
    for (const [, { pathname }] of this.#directories.from("")) yield pathname;
  }
}

const NOTHING = Buffer.alloc(0);

function nameKey(name: string): CellKey {
  return `${name}\0`;
}

/** LMDB's keys end at 1978 bytes, paths at 4095: the rest of a long one stands as a digest. */
const PATH_IN_KEY_BYTES_MAX = 1024;

function pathKey(pathname: string): CellKey {
  const bytes = Buffer.from(pathname);
  if (bytes.length <= PATH_IN_KEY_BYTES_MAX) return bytesKey(bytes);
  return bytesKey(bytes.subarray(0, PATH_IN_KEY_BYTES_MAX)) + bytesKey(createHash("sha256").update(bytes).digest());
}

/** A map opened for an operation. */
export class OpenMap implements MapStore {
  readonly map: MapRecord;
  readonly type: MapType;
  readonly cells: Cells;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly #state: State;
  #deferredCount: number | null = null;

  constructor(state: State, map: MapRecord, readable: boolean, writable: boolean) {
    this.#state = state;
    this.map = map;
    this.type = mapType(map.type) as MapType;
    this.cells = state.cells;
    this.readable = readable;
    this.writable = writable && !map.frozen;
  }

  entryCount(): number {
    return this.#deferredCount ?? this.#state.entryCount(this.map.id);
  }

  setEntryCount(count: number): void {
    if (this.#deferredCount === null) this.#state.setEntryCount(this.map.id, count);
    else this.#deferredCount = count;
  }

  /** Many changes after which the count is written once. */
  deferCount<Answer>(change: () => Answer): Answer {
    const before = this.entryCount();
    this.#deferredCount = before;
    const answer = change();
    const after = this.#deferredCount;
    this.#deferredCount = null;
    if (after !== before) this.setEntryCount(after);
    return answer;
  }

  changed(map: MapRecord, key: Buffer, value: Buffer | null): void {
    this.#state.follower.changed(map, key, value);
  }
}
