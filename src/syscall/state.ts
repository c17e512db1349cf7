import { createHash } from "node:crypto";
import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { FIRST_FD, SESSION_FDS_MAX } from "../abi/limits.ts";
import { afterPrefix, bytesKey, type Cell, type CellKey, type Cells, readU32Key, u32Key } from "../maps/cells.ts";
import { elementsPrefix, usesPrefix } from "../maps/common.ts";
import type {
  DriftPolicy,
  Element,
  Host,
  MapRecord,
  MapStore,
  MapType,
  OpenFile,
  ProgOwner,
  World,
} from "../maps/map.ts";
import { ANON_INODE, type BtfFacts, type ObjectKind, type ObjectRecord } from "../maps/object.ts";
import { mapType } from "../maps/types.ts";
import type { Capability, ClientProcess } from "./command.ts";
import type { Effect } from "./effects.ts";
import { Objects, type Tie } from "./objects.ts";
import { jsonCodec, numberCodec, type RowCodec, Table } from "./table.ts";

export interface SessionRecord {
  readonly id: number;
  readonly name: string;
  readonly caller: string;
  readonly ttlMs: number;
  readonly openedUs: number;
  /** Left out: all of them. */
  readonly capabilities?: readonly Capability[];
  /** What it lives by; left out: its TTL, or a stream. */
  readonly process?: ClientProcess;
}

/** An open file: what a descriptor refers to. */
export interface FdRecord extends OpenFile {
  readonly kind: "map" | ObjectKind;
  readonly readable: boolean;
  readonly writable: boolean;
}

export interface PinRecord {
  readonly pathname: string;
  readonly map: number;
}

/** A freed map whose kernel map lived on, in a boot. */
interface FormerMap {
  readonly map: number;
  readonly boot: string;
}

/** Who follows what the commands do: the mirror. */
export interface Follower {
  /** `btf`: the blob that describes it; null: nothing does. */
  created(map: MapRecord, btf: Buffer | null): void;
  /** `flags`: BPF_NOEXIST or BPF_EXIST, if the command said so, else 0. */
  changed(map: MapRecord, key: Buffer, value: Buffer | null, flags: number): void;
  frozen(map: MapRecord): void;
  freed(map: MapRecord): void;
  pinned(map: MapRecord, pathname: string): void;
  unpinned(pathname: string): void;
  directoryMade(pathname: string): void;
  directoryRemoved(pathname: string): void;
  /** Nothing holds an object any more. */
  objectGone(id: number): void;
}

const MAPS = "m";

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
 *     c  counters: the last id that was given to a map, a session, an open file, ...
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
 *     u  map id, ...                  -> in which order they were used, where the type keeps that
 *     h  (nothing)                    -> the machine's network interfaces
 *     w  kernel's map id              -> the freed map that it was the kernel map of
 *
 * and o, i, q, t of objects that are no maps: objects.ts.
 */
export class State implements World {
  readonly cells: Cells;
  readonly host: Host;
  readonly follower: Follower;
  readonly sessions: Table<SessionRecord>;
  readonly maps: Table<MapRecord>;
  readonly objects: Objects;
  readonly #pins: Table<PinRecord>;
  readonly #directories: Table<{ readonly pathname: string }>;
  readonly #counters: Table<number>;
  readonly #fds: Table<FdRecord>;
  readonly #entryCounts: Table<number>;
  readonly #holds: Table<number>;
  readonly #interfaces: Table<readonly number[]>;
  readonly #former: Table<FormerMap>;
  #freed: number[] = [];
  #gone: [map: number, key: string][] = [];

  constructor(cells: Cells, host: Host, follower: Follower) {
    this.cells = cells;
    this.host = host;
    this.follower = follower;
    this.sessions = new Table(cells, "s", jsonCodec());
    this.maps = new Table(cells, MAPS, mapCodec);
    this.objects = new Objects(cells, follower);
    this.#pins = new Table(cells, "p", jsonCodec());
    this.#directories = new Table(cells, "d", jsonCodec());
    this.#counters = new Table(cells, "c", numberCodec);
    this.#fds = new Table(cells, "f", jsonCodec());
    this.#entryCounts = new Table(cells, "n", numberCodec);
    this.#holds = new Table(cells, "r", numberCodec);
    this.#interfaces = new Table(cells, "h", jsonCodec());
    this.#former = new Table(cells, "w", jsonCodec());
  }

  /** After the cells went back to an earlier state. */
  forget(): void {
    this.sessions.forget();
    this.maps.forget();
    this.objects.forget();
    this.#pins.forget();
    this.#directories.forget();
    this.#counters.forget();
    this.#fds.forget();
    this.#entryCounts.forget();
    this.#holds.forget();
    this.#interfaces.forget();
    this.#former.forget();
    this.#freed = [];
    this.#gone = [];
  }

  // Counters: what was given out last is never given out again.

  lastId(counter: Counter): number {
    return this.#counters.get(counter) ?? 0;
  }

  usedId(counter: Counter, id: number): void {
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

  /** The lowest number from FIRST_FD on that is free in the session, or undefined: EMFILE. */
  freeFd(session: number): number | undefined {
    let free = FIRST_FD;
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
    if (file.object !== 0) this.holdObject(file.object);
  }

  closeFd(session: number, fd: number): void {
    const file = this.fd(session, fd);
    if (file === undefined) return;
    this.#fds.delete(u32Key(session) + u32Key(fd));
    if (file.object !== 0) this.releaseObject(file.object);
    if (file.map === 0) return;
    const map = this.#opened(file.map);
    if (map.type.fileClosed !== null && !this.#isOpen(session, file)) map.type.fileClosed(map, file.file);
    this.release(file.map);
  }

  /** Whether a duplicate is left: only its own session can have one. */
  #isOpen(session: number, { file }: FdRecord): boolean {
    for (const [, other] of this.fds(session)) if (other.file === file) return true;
    return false;
  }

  // Objects that are no maps.

  object(id: number): ObjectRecord | undefined {
    return this.objects.get(id);
  }

  holdObject(id: number): void {
    this.objects.hold(id);
  }

  releaseObject(id: number): void {
    this.#removeTied(this.objects.release(id, (tie) => this.#isOfInode(tie)));
  }

  /** A process has exited, a cgroup was removed: what belonged to it goes. */
  endObject(id: number): void {
    this.#removeTied(this.objects.end(id, (tie) => this.#isOfInode(tie)));
  }

  #isOfInode({ map }: Tie): boolean {
    return this.map(map)?.type === INODE_STORAGE;
  }

  /** Removing an element may free its map, and with it what else was tied. */
  #removeTied(ties: readonly Tie[]): void {
    for (const { map, key } of ties) {
      if (this.map(map) === undefined) continue;
      const tied = this.#opened(map);
      tied.type.remove(tied, key);
    }
  }

  tie(object: number, map: number, key: Buffer): void {
    if (object !== ANON_INODE) this.objects.tie(object, map, key);
  }

  untie(object: number, map: number, key: Buffer): void {
    if (object !== ANON_INODE) this.objects.untie(object, map, key);
  }

  isTied(object: number, type: number): boolean {
    for (const map of this.objects.tiedMaps(object)) if (this.map(map)?.type === type) return true;
    return false;
  }

  // The machine.

  hasInterface(ifindex: number): boolean {
    return this.interfaces.includes(ifindex);
  }

  get interfaces(): readonly number[] {
    return this.#interfaces.get("") ?? this.host.ifindexes;
  }

  /** Elements of interfaces that are gone go with them. */
  setInterfaces(ifindexes: readonly number[]): void {
    this.#interfaces.put("", ifindexes);
    for (const [, record] of [...this.maps.from("")]) {
      if (!sendsToInterfaces(record.type)) continue;
      const map = this.#opened(record.id);
      const gone = [...map.type.stored(map)].filter(({ value }) => !ifindexes.includes(value.readUInt32LE(0)));
      for (const { key } of gone) map.type.remove(map, key);
    }
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
    const btf = this.#btfOf(map);
    if (btf !== null) this.holdObject(btf.id);
    this.follower.created(map, this.btfBlob(map));
  }

  /** The BTF that describes a map's keys and values, which holds it; null: nothing does. */
  btfBlob(map: MapRecord): Buffer | null {
    const btf = this.#btfOf(map);
    return btf === null ? null : Buffer.from(btf.data, "hex");
  }

  #btfOf({ btf }: MapRecord): (BtfFacts & { readonly id: number }) | null {
    if (btf === null) return null;
    return this.objects.known({ kind: "btf", btfId: btf.btfId, data: "" }) as BtfFacts & { readonly id: number };
  }

  freezeMap(map: MapRecord): void {
    const frozen = { ...map, frozen: true };
    this.maps.put(u32Key(map.id), frozen);
    this.follower.frozen(frozen);
  }

  own(id: number, owner: ProgOwner): void {
    this.maps.put(u32Key(id), { ...(this.map(id) as MapRecord), owner });
  }

  setDrift(id: number, drift: DriftPolicy): void {
    const { undecided: _, ...map } = this.map(id) as MapRecord;
    this.maps.put(u32Key(id), { ...map, drift });
  }

  /** An operator has decided whose values are right. */
  decide(id: number): void {
    const { undecided: _, ...map } = this.map(id) as MapRecord;
    this.maps.put(u32Key(id), map);
  }

  /** Of every map it is to be decided whose values are right. */
  undecide(): void {
    for (const [key, map] of [...this.maps.from("")]) this.maps.put(key, { ...map, undecided: true });
  }

  /** A map that was adopted follows this kernel map from now on. */
  follow(id: number, kernelId: number): void {
    this.maps.put(u32Key(id), { ...(this.map(id) as MapRecord), adopted: kernelId });
  }

  /** A map that was adopted follows no kernel map any more. */
  releaseKernelMap(id: number): void {
    const { adopted: _, adoptedPin: __, onReplace: ___, ...map } = this.map(id) as MapRecord;
    this.maps.put(u32Key(id), { ...map, released: true });
  }

  /** A map's kernel map is one of the ledger's own from now on. */
  recreateKernelMap(id: number): void {
    const { adopted: _, adoptedPin: __, onReplace: ___, released: ____, ...map } = this.map(id) as MapRecord;
    this.maps.put(u32Key(id), map);
  }

  /** The freed map that a kernel map of this boot was the kernel map of; undefined: of none that is known. */
  formerMap(kernelId: number, boot: string): number | undefined {
    const former = this.#former.get(u32Key(kernelId));
    return former?.boot === boot ? former.map : undefined;
  }

  setFormerMap(kernelId: number, former: FormerMap): void {
    this.#former.put(u32Key(kernelId), former);
  }

  nextUse(): number {
    const use = this.lastId("use") + 1;
    this.usedId("use", use);
    return use;
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

  /** Lets go of a map. Where that was the last hold its id is gone; its elements are reclaimed later. */
  release(id: number): void {
    const holds = this.holds(id) - 1;
    if (holds > 0) {
      this.#holds.put(u32Key(id), holds);
      return;
    }
    const map = this.map(id) as MapRecord;
    const opened = this.#opened(id);
    this.#holds.delete(u32Key(id));
    this.maps.delete(u32Key(id));
    this.#entryCounts.delete(u32Key(id));
    this.cells.delete(`k${nameKey(map.name)}${u32Key(id)}`);
    this.cells.put(`g${u32Key(id)}`, NOTHING);
    this.follower.freed(map);
    this.#freed.push(id);
    const btf = this.#btfOf(map);
    if (btf !== null) this.releaseObject(btf.id);
    const { freed, stored } = opened.type;
    // Letting go changes cells, and they must not change while they are walked.
    if (freed !== null) for (const element of [...stored(opened)]) freed(opened, element);
  }

  /** The maps that went since this was asked last; null: none. */
  takeFreed(): readonly number[] | null {
    if (this.#freed.length === 0) return null;
    const freed = this.#freed;
    this.#freed = [];
    return freed;
  }

  /** Elements that went since this was asked last though no command named them; null: none. */
  takeGone(): readonly (readonly [map: number, key: string])[] | null {
    if (this.#gone.length === 0) return null;
    const gone = this.#gone;
    this.#gone = [];
    return gone;
  }

  /** A map that something happens to beside what a command does to the map that it names. */
  #opened(id: number): OpenMap {
    return new OpenMap(this, this.map(id) as MapRecord, OPERATOR, (key) => this.#gone.push([id, key.toString("hex")]));
  }

  /** Removes elements of freed maps, at most `limit` of them; answers whether any may be left. */
  reclaim(limit: number): boolean {
    const garbage = [...this.cells.range("g", afterPrefix("g"))].map(([key]) => key);
    let left = limit;
    for (const key of garbage) {
      const id = readU32Key(key, 1);
      for (const prefix of [elementsPrefix({ id }), usesPrefix({ id })]) {
        const cells: CellKey[] = [];
        for (const [cell] of this.cells.range(prefix, afterPrefix(prefix))) {
          if (left-- === 0) break;
          cells.push(cell);
        }
        for (const cell of cells) this.cells.delete(cell);
        if (left < 0) return true;
      }
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

  unpin(pathname: string): void {
    const id = this.pinAt(pathname) as number;
    this.#pins.delete(pathKey(pathname));
    this.follower.unpinned(pathname);
    this.release(id);
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

/** Where a map's record stands. */
export function mapCell(id: number): CellKey {
  return `${MAPS}${u32Key(id)}`;
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

/** The maps among cells of a state. */
export function mapsIn(cells: Iterable<Cell>): MapRecord[] {
  return [...cells].filter(([key]) => key.startsWith(MAPS)).map(([, bytes]) => mapCodec.decode(bytes));
}

/** Ids that are given out in ascending order and never again. */
type Counter = "map" | "session" | "file" | "object" | "prog" | "cookie" | "cgroup" | "btf" | "use";

const INODE_STORAGE = BPF_MAP_TYPE.BPF_MAP_TYPE_INODE_STORAGE;

/** Maps whose values begin with an interface's index. */
const SENDS_TO_INTERFACES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP,
  BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH,
]);

export function sendsToInterfaces(type: number): boolean {
  return SENDS_TO_INTERFACES.has(type);
}

/** How a map is opened: through a descriptor of a session, or by the operator, who may do everything. */
export interface Access {
  readonly session: number;
  readonly file: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

export const OPERATOR: Access = { session: 0, file: 0, readable: true, writable: true };

/** What an event has to say beside its command, so that it can be replayed, and watched. */
interface Effects {
  readonly keys: Buffer[];
  readonly values: Buffer[];
  shown: Buffer | null;
  emptied: boolean;
  /** With the number of elements that the command had stored by then. */
  readonly evicted: [after: number, key: Buffer][];
  readonly knownAs: [after: number, key: Buffer][];
}

/** A map opened for an operation. */
export class OpenMap implements MapStore {
  readonly map: MapRecord;
  readonly type: MapType;
  readonly cells: Cells;
  readonly host: Host;
  readonly world: World;
  readonly session: number;
  readonly file: number;
  readonly readable: boolean;
  /** The open file's own mode; freezing takes `writable` from every one. */
  readonly openedWritable: boolean;
  readonly writable: boolean;
  readonly #state: State;
  readonly #gone: (key: Buffer) => void;
  #deferredCount: number | null = null;
  #effects: Effects | null = null;
  /** Of an update: BPF_NOEXIST, BPF_EXIST or 0. */
  updateFlags = 0;
  /** The command has written or removed an element. */
  isChanged = false;
  /** How many elements the command has come past. */
  at = 0;

  /** `gone` is told of each element that goes. */
  constructor(state: State, map: MapRecord, access: Access, gone: (key: Buffer) => void = () => {}) {
    this.#state = state;
    this.#gone = gone;
    this.map = map;
    this.type = mapType(map.type) as MapType;
    this.cells = state.cells;
    this.host = state.host;
    this.world = state;
    this.session = access.session;
    this.file = access.file;
    this.readable = access.readable;
    this.openedWritable = access.writable;
    this.writable = access.writable && !map.frozen;
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

  get valueBytes(): number {
    return this.type.valueBytes(this.map, this.host);
  }

  /** Does again what an event says has happened. */
  apply(effects: Iterable<Effect>): void {
    for (const effect of effects) {
      if (effect.kind === "put") this.type.put(this, effect.key, effect.value);
      else this.type.remove(this, effect.key);
    }
  }

  changed(map: MapRecord, key: Buffer, value: Buffer | null): void {
    this.isChanged = true;
    if (value === null) this.#gone(key);
    this.#state.follower.changed(map, key, value, value === null ? 0 : this.updateFlags);
  }

  stored(key: Buffer, value: Buffer | null): void {
    const noted = this.#noted();
    noted.keys.push(key);
    if (value === null) return;
    noted.values.push(value);
    const cell = this.type.cellOf(this.map, key);
    const { value: shown } = this.type.element(this, cell, this.cells.get(cell)) as Element;
    if (!value.subarray(0, shown.length).equals(shown)) noted.shown = shown;
  }

  emptied(key: Buffer): void {
    const noted = this.#noted();
    noted.keys.push(key);
    noted.emptied = true;
  }

  evicted(key: Buffer): void {
    this.#noted().evicted.push([this.at, key]);
  }

  knownAs(key: Buffer): void {
    this.#noted().knownAs.push([this.at, key]);
  }

  /** null: the command and its errno say it all. */
  get effects(): Effects | null {
    return this.#effects;
  }

  #noted(): Effects {
    this.#effects ??= { keys: [], values: [], shown: null, emptied: false, evicted: [], knownAs: [] };
    return this.#effects;
  }
}
