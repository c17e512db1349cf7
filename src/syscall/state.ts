import { createHash } from "node:crypto";
import { FIRST_FD, SESSION_FDS_MAX } from "../abi/limits.ts";
import { OWNER } from "../access/caller.ts";
import { type Limits, UNLIMITED, Usage } from "../access/quotas.ts";
import {
  afterKey,
  afterPrefix,
  bytesKey,
  type Cell,
  type CellKey,
  type Cells,
  readU32Key,
  u32Key,
} from "../maps/cells.ts";
import { type Charge, chargeOf, elementCharge } from "../maps/charge.ts";
import { elementsPrefix, usesPrefix } from "../maps/common.ts";
import { factsOf, sendsToInterfaces } from "../maps/facts.ts";
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
import type { MapFacts } from "../maps/map_facts.ts";
import { ANON_INODE, type BtfFacts, type ObjectKind, type ObjectRecord, objectBytes } from "../maps/object.ts";
import type { Refusal } from "../maps/refusal.ts";
import { mapType } from "../maps/types.ts";
import type { Capability, ClientProcess } from "./command.ts";
import type { Effect } from "./effects.ts";
import type { Follower } from "./follower.ts";
import { type Leaving, Objects, type Tie } from "./objects.ts";
import type { Deferred } from "./outcome.ts";
import { checkQuota } from "./quota.ts";
import { jsonCodec, numberCodec, type RowCodec, Table } from "./table.ts";

export interface SessionRecord {
  readonly id: number;
  readonly name: string;
  readonly caller: string;
  /** The peer that opened the session. */
  readonly peer?: string;
  readonly ttlMs: number;
  readonly openedUs: number;
  /** Left out: all of them. */
  readonly capabilities?: readonly Capability[];
  /** The process with whose exit the session ends; left out: it lives by its TTL, or by a stream. */
  readonly process?: ClientProcess;
}

/** An open file, which descriptors refer to. */
export interface FdRecord extends OpenFile {
  readonly kind: "map" | ObjectKind;
  readonly readable: boolean;
  readonly writable: boolean;
}

export interface PinRecord {
  readonly pathname: string;
  readonly map: number;
  /** The caller who made it; left out: the owner, because the state was archived by a release that kept no creators. */
  readonly creator?: string;
}

interface DirectoryRecord {
  readonly pathname: string;
  /** The caller who made it; left out: the owner, because the state was archived by a release that kept no creators. */
  readonly creator?: string;
}

/** A freed map whose kernel map lived on, in this boot. */
interface FormerMap {
  readonly map: number;
  readonly boot: string;
}

/** Deferred work: the elements of a freed map, those tied to an object, or those of a map's removed interfaces. */
export type DeferredPiece = { readonly map: number } | { readonly object: number } | { readonly interfaces: number };

const MAPS = "m";

const mapCodec: RowCodec<MapRecord> = {
  encode: (map) => Buffer.from(JSON.stringify({ ...map, mapExtra: String(map.mapExtra) })),
  decode(bytes) {
    const row = JSON.parse(bytes.toString());
    return { ...row, mapExtra: BigInt(row.mapExtra) };
  },
};

/**
 * The state: everything that the log adds up to, as tables over cells. Each table has a letter:
 *
 *   c counters: the last id given to a map, a session, an open file, ...
 *   s session id             -> session
 *   f session id, fd         -> open file
 *   m map id                 -> map
 *   n map id                 -> number of its elements
 *   r map id                 -> number of references by descriptors, pins and outer maps
 *   k name, 0, map id        -> (empty): maps by name
 *   p pathname               -> a pin of bpffs: its map
 *   d pathname               -> a directory of bpffs
 *   g map id                 -> (empty): freed, its elements' cells are not reclaimed yet; or the map: its elements have
 *                               not dropped their references either
 *   e map id, ...            -> elements, in the layout of the map's type
 *   u map id, ...            -> the order in which elements were used, if the type keeps it
 *   h (empty)                -> the machine's network interfaces
 *   x map id                 -> the key after which elements of removed interfaces must still be looked for; empty: all
 *   w kernel's map id        -> the freed map that it was the kernel map of
 *
 * and o, i, q, t and y, for objects that are not maps: objects.ts.
 */
export class State implements World {
  readonly cells: Cells;
  readonly host: Host;
  readonly follower: Follower;
  readonly sessions: Table<SessionRecord>;
  readonly maps: Table<MapRecord>;
  readonly objects: Objects;
  /** The callers' quotas. */
  readonly limits: Limits;
  readonly #pins: Table<PinRecord>;
  readonly #directories: Table<DirectoryRecord>;
  readonly #counters: Table<number>;
  readonly #fds: Table<FdRecord>;
  readonly #entryCounts: Table<number>;
  readonly #holds: Table<number>;
  readonly #interfaces: Table<readonly number[]>;
  readonly #former: Table<FormerMap>;
  /** Built when it is first needed, then kept up to date. */
  #pinsByMap: Map<number, Set<string>> | null = null;
  /**
   * Called for each map that is created or freed, and each pin that is made or removed, after `pinsOf` has changed.
   * `pathname`: the pin's path; "": the map itself, or any of its pins. `map` null: any map may have changed.
   */
  onBelonging: ((map: number | null, pathname: string) => void) | null = null;
  /** The maps and pins that have changed since the last `settle`; pathname "": the map itself. */
  #unsettled: [map: number, pathname: string][] = [];
  /** The number of descriptors of sessions; counted when it is first needed, then kept up to date. */
  readonly #fdCounts = new Map<number, number>();
  /** null: not needed yet. Replays decide nothing, so they never need it. */
  #usage: Usage | null = null;
  #freed: number[] = [];
  #deferred: Deferred | null = null;
  /** The work that the event being replayed has deferred; null: none is being replayed. */
  #redone: Deferred | null = null;
  /** Whether there may be deferred work. */
  #mayDefer = true;
  #gone: [map: number, key: string][] = [];

  constructor(cells: Cells, host: Host, follower: Follower, limits: Limits = UNLIMITED) {
    this.limits = limits;
    this.cells = cells;
    this.host = host;
    this.follower = follower;
    this.sessions = new Table(cells, "s", jsonCodec());
    this.maps = new Table(cells, MAPS, mapCodec);
    this.objects = new Objects(cells, follower, (object, by) => this.#countObject(object, by));
    this.#pins = new Table(cells, "p", jsonCodec());
    this.#directories = new Table(cells, "d", jsonCodec());
    this.#counters = new Table(cells, "c", numberCodec);
    this.#fds = new Table(cells, "f", jsonCodec());
    this.#entryCounts = new Table(cells, "n", numberCodec);
    this.#holds = new Table(cells, "r", numberCodec);
    this.#interfaces = new Table(cells, "h", jsonCodec());
    this.#former = new Table(cells, "w", jsonCodec());
  }

  /** Makes the changes so far final: `forget` goes back no further than here. */
  settle(): void {
    this.usage.settle();
    this.#unsettled = [];
  }

  /**
   * Drops everything cached after the cells have gone back to an earlier state. `usage`: the usage's mark of that time,
   * not before the last `settle`; left out: the usage is counted again.
   */
  forget(usage?: number): void {
    if (usage === undefined) this.#usage = null;
    else this.#usage?.rollback(usage);
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
    if (usage === undefined) {
      this.#pinsByMap = null;
      this.onBelonging?.(null, "");
    } else this.#takeBack();
    this.#fdCounts.clear();
    this.#freed = [];
    this.#gone = [];
    this.#deferred = null;
    this.#mayDefer = true;
  }

  /** Notes again the maps and pins that have changed back. */
  #takeBack(): void {
    for (const [map, pathname] of this.#unsettled) {
      if (pathname === "" || this.#pinsByMap === null) continue;
      forgetPin(this.#pinsByMap, map, pathname);
      const pinned = this.pinAt(pathname);
      if (pinned !== undefined) notePin(this.#pinsByMap, pinned, pathname);
    }
    for (const [map] of this.#unsettled) this.onBelonging?.(map, "");
  }

  #belongsOtherwise(map: number, pathname: string): void {
    if (this.#pinsByMap !== null || this.onBelonging !== null) this.#unsettled.push([map, pathname]);
    this.onBelonging?.(map, pathname);
  }

  // Usage of quotas.

  get usage(): Usage {
    this.#usage ??= this.#countAll();
    return this.#usage;
  }

  /**
   * Counts the usage from the tables of sessions, descriptors, pins, directories, objects and maps, without walking
   * elements.
   */
  #countAll(): Usage {
    const usage = new Usage();
    const callers = new Map<number, string>();
    for (const [, { id, caller }] of this.sessions.from("")) {
      callers.set(id, caller);
      usage.add(caller, "sessions", 1);
    }
    for (const [key] of this.#fds.from("")) usage.add(callers.get(readU32Key(key, 0)) ?? "", "descriptors", 1);
    for (const rows of [this.#pins.from(""), this.#directories.from("")])
      for (const [, row] of rows) usage.add(creatorOf(row), "pins", 1);
    for (const object of this.objects.all()) addObject(usage, object, 1);
    for (const [, map] of this.maps.from("")) this.#addMap(usage, map, this.entryCount(map.id), 1);
    usage.settle();
    return usage;
  }

  #addMap(usage: Usage, map: MapRecord, entries: number, by: 1 | -1): void {
    const { bytes, kernelBytes } = this.chargeOf(map, entries);
    const creator = creatorOf(map);
    usage.add(creator, "maps", by);
    usage.add(creator, "bytes", by * bytes);
    usage.add(creator, "kernel_bytes", by * kernelBytes);
  }

  #countObject(object: ObjectRecord, by: 1 | -1): void {
    if (this.#usage !== null) addObject(this.#usage, object, by);
  }

  chargeOf(map: MapRecord, entries: number): Charge {
    return chargeOf(mapType(map.type) as MapType, map, entries, this.host);
  }

  // Counters: an id is never assigned again.

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

  openSession(session: SessionRecord): void {
    this.sessions.put(u32Key(session.id), session);
    this.#usage?.add(session.caller, "sessions", 1);
  }

  endSession(id: number): void {
    const session = this.session(id);
    if (session === undefined) return;
    this.sessions.delete(u32Key(id));
    this.#fdCounts.delete(id);
    this.#usage?.add(session.caller, "sessions", -1);
  }

  fd(session: number, fd: number): FdRecord | undefined {
    return fd < 0 ? undefined : this.#fds.get(u32Key(session) + u32Key(fd));
  }

  *fds(session: number): Iterable<readonly [fd: number, file: FdRecord]> {
    for (const [key, file] of this.#fds.under(u32Key(session))) yield [readU32Key(key, 4), file];
  }

  fdCount(session: number): number {
    const count = this.#fdCounts.get(session) ?? this.#fds.countUnder(u32Key(session));
    this.#fdCounts.set(session, count);
    return count;
  }

  #countFd(session: number, by: 1 | -1): void {
    this.#usage?.add(this.session(session)?.caller ?? "", "descriptors", by);
    const count = this.#fdCounts.get(session);
    if (count !== undefined) this.#fdCounts.set(session, count + by);
  }

  /** The lowest free descriptor from FIRST_FD on; undefined: EMFILE. */
  freeFd(session: number): number | undefined {
    let free = FIRST_FD;
    for (const key of this.#fds.keysUnder(u32Key(session))) {
      if (readU32Key(key, 4) !== free) break;
      free++;
    }
    return free < SESSION_FDS_MAX ? free : undefined;
  }

  openFd(session: number, fd: number, file: FdRecord): void {
    this.#fds.put(u32Key(session) + u32Key(fd), file);
    this.#countFd(session, 1);
    this.usedId("file", file.file);
    if (file.map !== 0) this.hold(file.map);
    if (file.object !== 0) this.holdObject(file.object);
  }

  closeFd(session: number, fd: number): void {
    const file = this.fd(session, fd);
    if (file === undefined) return;
    this.#fds.delete(u32Key(session) + u32Key(fd));
    this.#countFd(session, -1);
    if (file.object !== 0) this.releaseObject(file.object);
    if (file.map === 0) return;
    const map = this.#opened(file.map);
    if (map.type.fileClosed !== null && !this.#isOpen(session, file)) map.type.fileClosed(map, file.file);
    this.release(file.map);
  }

  /** Whether a duplicate of the descriptor is open: only the same session can have one. */
  #isOpen(session: number, { file }: FdRecord): boolean {
    for (const [, other] of this.fds(session)) if (other.file === file) return true;
    return false;
  }

  // Objects that are not maps.

  object(id: number): ObjectRecord | undefined {
    return this.objects.get(id);
  }

  holdObject(id: number): void {
    this.objects.hold(id);
  }

  releaseObject(id: number): void {
    this.#removeTied(
      id,
      "released",
      this.objects.release(id, (tie) => this.#isOfInode(tie)),
    );
  }

  /** Notes that a process has exited or a cgroup was removed, and deletes the elements tied to it. */
  endObject(id: number): void {
    this.#removeTied(
      id,
      "ended",
      this.objects.end(id, (tie) => this.#isOfInode(tie)),
    );
  }

  #isOfInode({ map }: Tie): boolean {
    const record = this.map(map);
    return record !== undefined && this.factsOf(record).keyFd === "inode";
  }

  /** Deletes the elements tied to an object, or defers all of them if they are too many. */
  #removeTied(id: number, why: Leaving, leaving: Iterable<Tie>): void {
    const ties: Tie[] = [];
    for (const tie of leaving) {
      if (this.#goesLater("objects", id, ties.length + 1)) {
        this.objects.defer(id, why);
        this.#putOff("objects", id);
        return;
      }
      ties.push(tie);
    }
    this.#goAtOnce(ties.length);
    this.objects.leave(id, () => this.#removeAll(id, ties));
  }

  /** Deletes tied elements. Deleting one may free its map, and thereby delete others. */
  #removeAll(object: number, ties: readonly Tie[]): void {
    for (const { map, key } of ties) {
      const tied = this.map(map) === undefined ? null : this.#opened(map);
      if (tied === null) this.objects.untie(object, map, key);
      else tied.type.remove(tied, key);
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

  /** Sets the machine's interfaces, and deletes the elements of removed ones. */
  setInterfaces(ifindexes: readonly number[]): void {
    this.#interfaces.put("", ifindexes);
    for (const [, record] of [...this.maps.from("")]) {
      if (!sendsToInterfaces(record.type)) continue;
      const entries = this.entryCount(record.id);
      if (this.#goesLater("interfaces", record.id, entries)) {
        this.cells.put(`x${u32Key(record.id)}`, NOTHING);
        this.#putOff("interfaces", record.id);
        continue;
      }
      this.#goAtOnce(entries);
      const map = this.#opened(record.id);
      this.#removeOfInterfaces(map, map.type.stored(map));
    }
  }

  /** Deletes those of the given elements whose interface was removed. */
  #removeOfInterfaces(map: OpenMap, elements: Iterable<Element>): void {
    const { interfaces } = this;
    const gone = [...elements].filter(({ value }) => !interfaces.includes(value.readUInt32LE(0)));
    for (const { key } of gone) map.type.remove(map, key);
  }

  // Maps.

  factsOf({ type }: Pick<MapRecord, "type">): MapFacts {
    return (mapType(type) as MapType).facts;
  }

  map(id: number): MapRecord | undefined {
    return this.maps.get(u32Key(id));
  }

  /** The smallest id of a map above `id`. */
  mapAfter(id: number): number | undefined {
    for (const [, map] of this.maps.from(u32Key(id + 1))) return map.id;
    return undefined;
  }

  /** The ids of maps with this name, ascending; at most NAMED_MAX + 1 of them. */
  mapsNamed(name: string): number[] {
    const prefix = `k${nameKey(name)}`;
    const ids: number[] = [];
    for (const [key] of this.cells.range(prefix, afterPrefix(prefix))) {
      ids.push(readU32Key(key, prefix.length));
      if (ids.length > NAMED_MAX) break;
    }
    return ids;
  }

  createMap(map: MapRecord): void {
    this.maps.put(u32Key(map.id), map);
    this.#belongsOtherwise(map.id, "");
    this.#entryCounts.put(u32Key(map.id), 0);
    if (this.#usage !== null) this.#addMap(this.#usage, map, 0, 1);
    this.cells.put(`k${nameKey(map.name)}${u32Key(map.id)}`, NOTHING);
    this.usedId("map", map.id);
    const btf = this.#btfOf(map);
    if (btf !== null) this.holdObject(btf.id);
    this.follower.created(map, this.btfBlob(map));
  }

  /** The BTF blob that describes a map's keys and values; null: none does. The map holds a reference to it. */
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

  /** Notes that an operator has decided whose values are right. */
  decide(id: number): void {
    const { undecided: _, ...map } = this.map(id) as MapRecord;
    this.maps.put(u32Key(id), map);
  }

  /** Notes for every map that an operator must decide whose values are right. */
  undecide(): void {
    for (const [key, map] of [...this.maps.from("")]) this.maps.put(key, { ...map, undecided: true });
  }

  /** Makes an adopted map follow another kernel map. */
  follow(id: number, kernelId: number): void {
    this.maps.put(u32Key(id), { ...(this.map(id) as MapRecord), adopted: kernelId });
  }

  /** Ends an adoption: the map follows no kernel map any more. */
  releaseKernelMap(id: number): void {
    const { adopted: _, adoptedPin: __, onReplace: ___, ...map } = this.map(id) as MapRecord;
    this.maps.put(u32Key(id), { ...map, released: true });
  }

  /** Makes a map's kernel map one of the ledger's own. */
  recreateKernelMap(id: number): void {
    const { adopted: _, adoptedPin: __, onReplace: ___, released: ____, ...map } = this.map(id) as MapRecord;
    this.maps.put(u32Key(id), map);
  }

  /** The freed map whose kernel map this was, in this boot; undefined: none is known. */
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

  /** The number of elements that pages of the map list. */
  listedCount({ id, type, maxEntries }: Pick<MapRecord, "id" | "type" | "maxEntries">): number {
    return factsOf(type)?.dense === true ? maxEntries : this.entryCount(id);
  }

  entryCount(id: number): number {
    return this.#entryCounts.get(u32Key(id)) ?? 0;
  }

  setEntryCount(map: MapRecord, type: MapType, count: number): void {
    const key = u32Key(map.id);
    if (this.#usage !== null && !type.preallocated(map)) {
      const more = count - (this.#entryCounts.get(key) ?? 0);
      const each = elementCharge(type, map, this.host);
      const creator = creatorOf(map);
      this.#usage.add(creator, "bytes", more * each.bytes);
      this.#usage.add(creator, "kernel_bytes", more * each.kernelBytes);
    }
    this.#entryCounts.put(key, count);
  }

  holds(id: number): number {
    return this.#holds.get(u32Key(id)) ?? 0;
  }

  hold(id: number): void {
    this.#holds.put(u32Key(id), this.holds(id) + 1);
  }

  /**
   * Releases a reference to a map. If it was the last, the map is freed: its id is gone at once; its cells are
   * reclaimed later.
   */
  release(id: number): void {
    const holds = this.holds(id) - 1;
    if (holds > 0) {
      this.#holds.put(u32Key(id), holds);
      return;
    }
    const map = this.map(id) as MapRecord;
    const opened = this.#opened(id);
    const entries = this.entryCount(id);
    if (this.#usage !== null) this.#addMap(this.#usage, map, entries, -1);
    this.#holds.delete(u32Key(id));
    this.maps.delete(u32Key(id));
    this.#belongsOtherwise(id, "");
    this.#entryCounts.delete(u32Key(id));
    this.cells.delete(`k${nameKey(map.name)}${u32Key(id)}`);
    this.cells.put(`g${u32Key(id)}`, NOTHING);
    if (sendsToInterfaces(map.type)) this.cells.delete(`x${u32Key(id)}`);
    this.follower.freed(map);
    this.#freed.push(id);
    const btf = this.#btfOf(map);
    if (btf !== null) this.releaseObject(btf.id);
    const { freed } = opened.type;
    if (freed === null) return;
    if (this.#goesLater("maps", id, entries)) {
      this.cells.put(`g${u32Key(id)}`, mapCodec.encode(map));
      this.#putOff("maps", id);
      return;
    }
    this.#goAtOnce(entries);
    // Dropping references changes cells, which must not change while they are iterated.
    for (const element of [...opened.type.stored(opened)]) freed(opened, element);
  }

  // Deferred work: deletions that would take too long at once are done later, by events of their own. The decision to
  // defer is made once, and recorded in the event.

  /**
   * The number of elements that may still be deleted at once, besides those that commands name; larger deletions are
   * deferred.
   */
  atOnce = Number.POSITIVE_INFINITY;

  /**
   * Begins the replay of an event: exactly the work that it has recorded is deferred. null: commands are decided again.
   */
  redoing(deferred: Deferred | null): void {
    this.#redone = deferred;
  }

  #goesLater(kind: keyof Deferred, id: number, elements: number): boolean {
    return this.#redone === null ? elements > this.atOnce : this.#redone[kind]?.includes(id) === true;
  }

  #goAtOnce(elements: number): void {
    if (this.#redone === null) this.atOnce -= elements;
  }

  #putOff(kind: keyof Deferred, id: number): void {
    this.#mayDefer = true;
    this.#deferred = { ...this.#deferred, [kind]: [...(this.#deferred?.[kind] ?? []), id] };
  }

  /** The work deferred since the last call; null: none. */
  takeDeferred(): Deferred | null {
    const deferred = this.#deferred;
    this.#deferred = null;
    return deferred;
  }

  /** The next piece of deferred work; null: there is none. */
  deferred(): DeferredPiece | null {
    if (!this.#mayDefer) return null;
    for (const [cell, bytes] of this.cells.range("g", afterPrefix("g")))
      if (bytes.length > 0) return { map: readU32Key(cell, 1) };
    const object = this.objects.deferred();
    if (object !== undefined) return { object };
    for (const [cell] of this.cells.range("x", afterPrefix("x"))) return { interfaces: readU32Key(cell, 1) };
    this.#mayDefer = false;
    return null;
  }

  /** Whether a freed map's elements have yet to drop their references. */
  isDeferred(id: number): boolean {
    return (this.cells.get(`g${u32Key(id)}`)?.length ?? 0) > 0;
  }

  /** Lets at most `limit` elements of a freed map drop their references, and deletes them. Returns their number. */
  freeElements(id: number, limit: number): number {
    if (!this.isDeferred(id)) return 0;
    const opened = new OpenMap(this, mapCodec.decode(this.cells.get(`g${u32Key(id)}`) as Buffer), OPERATOR);
    const { freed, stored, cellOf } = opened.type;
    const elements: Element[] = [];
    for (const element of stored(opened)) if (elements.push(element) === limit) break;
    for (const element of elements) {
      freed?.(opened, element);
      this.cells.delete(cellOf(opened.map, element.key));
    }
    if (elements.length < limit) this.cells.put(`g${u32Key(id)}`, NOTHING);
    return elements.length;
  }

  /**
   * Checks the next `limit` elements of a map, and deletes those of removed interfaces. Returns the number of elements
   * checked.
   */
  freeOfInterfaces(id: number, limit: number): number {
    const cell = `x${u32Key(id)}`;
    const behind = this.cells.get(cell);
    if (behind === undefined) return 0;
    const map = this.#opened(id);
    const prefix = elementsPrefix(map.map);
    const from = behind.length === 0 ? prefix : afterKey(map.type.cellOf(map.map, behind));
    const elements: Element[] = [];
    for (const [at, bytes] of this.cells.range(from, afterPrefix(prefix))) {
      const element = map.type.element(map, at, bytes);
      if (element !== null && elements.push(element) === limit) break;
    }
    if (elements.length < limit) this.cells.delete(cell);
    else this.cells.put(cell, (elements.at(-1) as Element).key);
    this.#removeOfInterfaces(map, elements);
    return elements.length;
  }

  /** Deletes at most `limit` of the elements tied to an object. Returns their number. */
  freeTied(id: number, limit: number): number {
    const ties: Tie[] = [];
    for (const tie of this.objects.leavingLater(id, (tie) => this.#isOfInode(tie))) if (ties.push(tie) === limit) break;
    if (ties.length < limit) this.objects.undefer(id);
    this.objects.leave(id, () => this.#removeAll(id, ties));
    return ties.length;
  }

  /** The maps freed since the last call; null: none. */
  takeFreed(): readonly number[] | null {
    if (this.#freed.length === 0) return null;
    const freed = this.#freed;
    this.#freed = [];
    return freed;
  }

  /** The elements deleted since the last call that no command named; null: none. */
  takeGone(): readonly (readonly [map: number, key: string])[] | null {
    if (this.#gone.length === 0) return null;
    const gone = this.#gone;
    this.#gone = [];
    return gone;
  }

  /** Opens a map for a side effect, not for the command on it: deleted elements are noted in `#gone`. */
  #opened(id: number): OpenMap {
    return new OpenMap(this, this.map(id) as MapRecord, OPERATOR, (key) => this.#gone.push([id, key.toString("hex")]));
  }

  /** Reclaims at most `limit` cells of freed maps. Returns whether any may be left. */
  reclaim(limit: number): boolean {
    const garbage: CellKey[] = [];
    for (const [key, bytes] of this.cells.range("g", afterPrefix("g"))) if (bytes.length === 0) garbage.push(key);
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

  pin(map: MapRecord, pathname: string, creator: string): void {
    this.#pins.put(pathKey(pathname), { pathname, map: map.id, creator });
    this.#usage?.add(creator, "pins", 1);
    if (this.#pinsByMap !== null) notePin(this.#pinsByMap, map.id, pathname);
    this.#belongsOtherwise(map.id, pathname);
    this.hold(map.id);
    this.follower.pinned(map, pathname);
  }

  pinAt(pathname: string): number | undefined {
    return this.#pins.get(pathKey(pathname))?.map;
  }

  unpin(pathname: string): void {
    const pin = this.#pins.get(pathKey(pathname)) as PinRecord;
    const id = pin.map;
    this.#pins.delete(pathKey(pathname));
    this.#usage?.add(creatorOf(pin), "pins", -1);
    if (this.#pinsByMap !== null) forgetPin(this.#pinsByMap, id, pathname);
    this.#belongsOtherwise(id, pathname);
    this.follower.unpinned(pathname);
    this.release(id);
  }

  /** The paths at which a map is pinned. */
  pinsOf(id: number): ReadonlySet<string> {
    if (this.#pinsByMap === null) {
      this.#pinsByMap = new Map();
      for (const { pathname, map } of this.pinned()) notePin(this.#pinsByMap, map, pathname);
    }
    return this.#pinsByMap.get(id) ?? NO_PINS;
  }

  isDirectory(pathname: string): boolean {
    return this.#directories.get(pathKey(pathname)) !== undefined;
  }

  makeDirectory(pathname: string, creator: string): void {
    this.#directories.put(pathKey(pathname), { pathname, creator });
    this.#usage?.add(creator, "pins", 1);
    this.follower.directoryMade(pathname);
  }

  removeDirectory(pathname: string): void {
    const directory = this.#directories.get(pathKey(pathname)) as DirectoryRecord;
    this.#directories.delete(pathKey(pathname));
    this.#usage?.add(creatorOf(directory), "pins", -1);
    this.follower.directoryRemoved(pathname);
  }

  /** Whether there is a pin or directory below a path. */
  hasEntries(pathname: string): boolean {
    const below = `${pathname}/`;
    // Keys of long paths end in a hash, so rows with this prefix may have another path.
    const prefix = bytesKey(Buffer.from(below).subarray(0, PATH_IN_KEY_BYTES_MAX));
    for (const rows of [this.#pins.under(prefix), this.#directories.under(prefix)])
      for (const [, row] of rows) if (row.pathname.startsWith(below)) return true;
    return false;
  }

  /** Pins in the order of their keys, after the one at the path `after`; "": all of them. */
  *pinned(after = ""): Iterable<PinRecord> {
    for (const [, pin] of this.#pins.from(behindPath(after))) yield pin;
  }

  /** Directories in the order of their keys, after the one at the path `after`; "": all of them. */
  *directories(after = ""): Iterable<string> {
    for (const [, { pathname }] of this.#directories.from(behindPath(after))) yield pathname;
  }
}

/** The most maps of one name that a refusal lists. */
export const NAMED_MAX = 16;

/** The refusal of a name that several maps have. `ids`: as `mapsNamed` returns them. */
export function severalNamed(name: string, ids: readonly number[]): string {
  if (ids.length <= NAMED_MAX) return `${ids.length} maps have the name ${name}: ids ${ids.join(", ")}`;
  return `more than ${NAMED_MAX} maps have the name ${name}: ids ${ids.slice(0, NAMED_MAX).join(", ")} and others`;
}

/** The key of the cell that has a map's record. */
export function mapCell(id: number): CellKey {
  return `${MAPS}${u32Key(id)}`;
}

/** The caller whose quotas a map, an object, a pin or a directory is charged to. */
function creatorOf({ creator }: { readonly creator?: string }): string {
  return creator ?? OWNER.name;
}

function addObject(usage: Usage, object: ObjectRecord, by: 1 | -1): void {
  usage.add(creatorOf(object), "objects", by);
  usage.add(creatorOf(object), "kernel_bytes", by * objectBytes(object));
}

const NOTHING = Buffer.alloc(0);
const NO_PINS: ReadonlySet<string> = new Set();

function notePin(pins: Map<number, Set<string>>, map: number, pathname: string): void {
  const known = pins.get(map);
  if (known === undefined) pins.set(map, new Set([pathname]));
  else known.add(pathname);
}

function forgetPin(pins: Map<number, Set<string>>, map: number, pathname: string): void {
  const known = pins.get(map);
  known?.delete(pathname);
  if (known?.size === 0) pins.delete(map);
}

function nameKey(name: string): CellKey {
  return `${name}\0`;
}

/** LMDB's keys have at most 1978 bytes, paths up to 4095: the rest of a long path is replaced by its SHA-256. */
const PATH_IN_KEY_BYTES_MAX = 1024;

function pathKey(pathname: string): CellKey {
  const bytes = Buffer.from(pathname);
  if (bytes.length <= PATH_IN_KEY_BYTES_MAX) return bytesKey(bytes);
  return bytesKey(bytes.subarray(0, PATH_IN_KEY_BYTES_MAX)) + bytesKey(createHash("sha256").update(bytes).digest());
}

function behindPath(pathname: string): CellKey {
  return pathname === "" ? "" : afterKey(pathKey(pathname));
}

/** The maps among the cells of a state. */
export function mapsIn(cells: Iterable<Cell>): MapRecord[] {
  return [...cells].filter(([key]) => key.startsWith(MAPS)).map(([, bytes]) => mapCodec.decode(bytes));
}

/** Ids are assigned in ascending order and never again. */
type Counter = "map" | "session" | "file" | "object" | "prog" | "cookie" | "cgroup" | "btf" | "use";

/** The way by which a map is opened: a session's descriptor, or the operator's view, which allows everything. */
export interface Access {
  readonly session: number;
  readonly file: number;
  readonly readable: boolean;
  readonly writable: boolean;
}

export const OPERATOR: Access = { session: 0, file: 0, readable: true, writable: true };

/** The part of an event beyond its command that replays and watches need. */
interface Effects {
  readonly keys: Buffer[];
  readonly values: Buffer[];
  shown: Buffer | null;
  emptied: boolean;
  /** With the number of elements that the command had stored before. */
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
  /** The open file's own mode; freezing removes `writable` from every one. */
  readonly openedWritable: boolean;
  readonly writable: boolean;
  readonly #state: State;
  readonly #gone: (key: Buffer) => void;
  #deferredCount: number | null = null;
  #effects: Effects | null = null;
  /** Of an update: BPF_NOEXIST, BPF_EXIST or 0. */
  updateFlags = 0;
  /** The command has written or deleted an element. */
  isChanged = false;
  /** The kernel map has the elements already: quotas do not apply. */
  isImported = false;
  /** The number of elements that the command has stored or deleted so far. */
  at = 0;

  /** `gone`: called for each deleted element. */
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
    if (this.#deferredCount === null) this.#state.setEntryCount(this.map, this.type, count);
    else this.#deferredCount = count;
  }

  growth(): Refusal | null {
    if (this.isImported || this.type.preallocated(this.map)) return null;
    const taken = this.entryCount() - this.#state.entryCount(this.map.id);
    const { bytes, kernelBytes } = elementCharge(this.type, this.map, this.host);
    const creator = creatorOf(this.map);
    return (
      checkQuota(this.#state, creator, "kernel_bytes", kernelBytes, taken * kernelBytes) ??
      checkQuota(this.#state, creator, "bytes", bytes, taken * bytes)
    );
  }

  /** Runs many changes and writes the count once after them. */
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

  /** Applies the effects that an event records. */
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

  /** null: command and errno say everything. */
  get effects(): Effects | null {
    return this.#effects;
  }

  #noted(): Effects {
    this.#effects ??= { keys: [], values: [], shown: null, emptied: false, evicted: [], knownAs: [] };
    return this.#effects;
  }
}
