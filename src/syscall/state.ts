/**
 * The state, as tables over cells. `bpffs.ts`, `fd_table.ts`, `objects.ts`, `charges.ts` and others have a part of it
 * each.
 */

import { type Limits, UNLIMITED } from "../access/quotas.ts";
import { type Cells, u32Key } from "../maps/cells.ts";
import type { Host, MapRecord, MapType, ProgOwner, World } from "../maps/map.ts";
import type { MapFacts } from "../maps/map_facts.ts";
import type { BtfFacts, ObjectRecord } from "../maps/object.ts";
import { mapType } from "../maps/types.ts";
import { Aftermath } from "./aftermath.ts";
import { Bpffs } from "./bpffs.ts";
import { Charges } from "./charges.ts";
import { Deferral, type DeferredPiece } from "./deferral.ts";
import { ElementCounts } from "./element_counts.ts";
import { type FdRecord, FdTable } from "./fd_table.ts";
import type { Follower } from "./follower.ts";
import { FormerMaps } from "./former_maps.ts";
import { Garbage } from "./garbage.ts";
import { Interfaces } from "./interfaces.ts";
import { MapNames } from "./map_names.ts";
import { MAPS, mapCodec } from "./map_table.ts";
import { MapWatch } from "./map_watch.ts";
import { Objects } from "./objects.ts";
import { type MapTables, OPERATOR, OpenMap } from "./open_map.ts";
import { type SessionRecord, Sessions } from "./sessions.ts";
import { numberCodec, Table } from "./table.ts";
import { TiedElements } from "./tied_elements.ts";

/** Ids are assigned in ascending order and never again. */
type Counter = "map" | "session" | "file" | "object" | "prog" | "cookie" | "cgroup" | "btf" | "use";

/** What is called with every session and every map. */
export interface Survey {
  session(session: SessionRecord): void;
  map(map: MapRecord): void;
}

const UNSEEN: Survey = { session() {}, map() {} };

/**
 * The state: everything that the log adds up to, as tables over cells. Each table has a letter:
 *
 *   c counters: the last id given to a map, a session, an open file, ...
 *   s session id             -> session: sessions.ts
 *   f session id, fd         -> open file: fd_table.ts
 *   m map id                 -> map
 *   n map id                 -> number of its elements: element_counts.ts
 *   r map id                 -> number of references by descriptors, pins and outer maps
 *   k name, 0, map id        -> (empty): map_names.ts
 *   p, d                     -> pins and directories: bpffs.ts
 *   g map id                 -> freed maps that still have cells: garbage.ts
 *   e map id, ...            -> elements, in the layout of the map's type
 *   u map id, ...            -> the order in which elements were used, if the type keeps it
 *   h, x                     -> the machine's network interfaces: interfaces.ts
 *   w kernel's map id        -> the freed map that it was the kernel map of: former_maps.ts
 *   o, i, q, t, y            -> objects that are not maps: objects.ts
 *
 * Each part has its own tables and asks for few others; the state puts the parts together.
 */
export class State implements World, MapTables {
  readonly cells: Cells;
  readonly host: Host;
  readonly follower: Follower;
  readonly world: World = this;
  readonly sessions: Sessions;
  readonly maps: Table<MapRecord>;
  readonly names: MapNames;
  readonly counts: ElementCounts;
  readonly fds: FdTable;
  readonly objects: Objects;
  readonly ties: TiedElements;
  readonly bpffs: Bpffs;
  readonly interfaces: Interfaces;
  readonly garbage: Garbage;
  readonly charges: Charges;
  readonly former: FormerMaps;
  readonly deferral = new Deferral();
  readonly aftermath = new Aftermath(this.deferral);
  readonly watch = new MapWatch();
  readonly #counters: Table<number>;
  readonly #holds: Table<number>;

  /** `limits`: of what a caller may have. */
  constructor(cells: Cells, host: Host, follower: Follower, limits: Limits = UNLIMITED) {
    this.cells = cells;
    this.host = host;
    this.follower = follower;
    const { deferral, watch } = this;
    const charges = new Charges(limits, host, () => this.#chargeAll(UNSEEN));
    const counts = new ElementCounts(cells, charges);
    const maps = new Table(cells, MAPS, mapCodec);
    const objects = new Objects(cells, follower, (object, by) => charges.addObject(object, by));
    const map = (id: number): MapRecord | undefined => this.map(id);
    const open = (id: number): OpenMap => this.#open(id);
    this.charges = charges;
    this.counts = counts;
    this.maps = maps;
    this.objects = objects;
    this.sessions = new Sessions(cells, (caller, by) => charges.add(caller, "sessions", by));
    this.names = new MapNames(cells);
    this.fds = new FdTable(cells, (session, by) => charges.add(this.session(session)?.caller ?? "", "descriptors", by));
    this.ties = new TiedElements({ objects, deferral, map, open });
    this.bpffs = new Bpffs({
      cells,
      charges,
      follower,
      watch,
      hold: (id) => this.hold(id),
      release: (id) => this.release(id),
    });
    this.interfaces = new Interfaces({ cells, host, counts, deferral, maps, open });
    this.garbage = new Garbage(cells, (freed) => new OpenMap(this, freed, OPERATOR));
    this.former = new FormerMaps(cells);
    this.#counters = new Table(cells, "c", numberCodec);
    this.#holds = new Table(cells, "r", numberCodec);
  }

  /** Makes the changes so far final: no mark goes back further than here. */
  settle(): void {
    this.charges.settle();
    this.bpffs.settle();
    this.watch.settle();
  }

  /** A point to go back to, until the next `settle`. */
  mark(): number {
    return this.charges.usage.mark();
  }

  /** Drops everything cached after the cells have gone back to those of a mark. */
  rollback(mark: number): void {
    this.#forgetRows();
    this.charges.rollback(mark);
    this.bpffs.takeBack();
    this.watch.takeBack();
  }

  /** The same after the cells have gone back to any earlier state: usage and indexes are made again. */
  forget(): void {
    this.#forgetRows();
    this.charges.forget();
    this.bpffs.forget();
    this.watch.forget();
  }

  #forgetRows(): void {
    for (const table of [this.sessions, this.maps, this.counts, this.fds, this.objects, this.interfaces, this.former])
      table.forget();
    for (const table of [this.#counters, this.#holds]) table.forget();
    this.aftermath.forget();
    this.garbage.forget();
  }

  /** Shows every session and map, and counts the usage of quotas in the same walk, because each row takes microseconds. */
  survey(visit: Survey): void {
    this.charges.count(() => this.#chargeAll(visit));
  }

  /** Charges everything in the tables of sessions, descriptors, pins, objects and maps; elements are charged by the number that each map stores. */
  #chargeAll(visit: Survey): void {
    const { charges } = this;
    this.sessions.chargeAll(visit.session);
    this.fds.chargeAll();
    this.bpffs.chargeAll();
    for (const object of this.objects.all()) charges.addObject(object, 1);
    for (const [, map] of this.maps.from("")) {
      charges.addMap(map, this.entryCount(map.id), 1);
      visit.map(map);
    }
  }

  // Counters: an id is never assigned again.

  lastId(counter: Counter): number {
    return this.#counters.get(counter) ?? 0;
  }

  usedId(counter: Counter, id: number): void {
    if (id > this.lastId(counter)) this.#counters.put(counter, id);
  }

  nextUse(): number {
    const use = this.lastId("use") + 1;
    this.usedId("use", use);
    return use;
  }

  // Sessions and their descriptors.

  session(id: number): SessionRecord | undefined {
    return this.sessions.get(id);
  }

  endSession(id: number): void {
    this.sessions.end(id);
    this.fds.sessionEnded(id);
  }

  fd(session: number, fd: number): FdRecord | undefined {
    return this.fds.get(session, fd);
  }

  openFd(session: number, fd: number, file: FdRecord): void {
    this.fds.add(session, fd, file);
    this.usedId("file", file.file);
    if (file.map !== 0) this.hold(file.map);
    if (file.object !== 0) this.holdObject(file.object);
  }

  closeFd(session: number, fd: number): void {
    const file = this.fd(session, fd);
    if (file === undefined) return;
    this.fds.delete(session, fd);
    if (file.object !== 0) this.releaseObject(file.object);
    if (file.map === 0) return;
    const map = this.#open(file.map);
    if (map.type.release !== null && !this.fds.isOpen(session, file)) map.type.release(map, file.file);
    this.release(file.map);
  }

  // Objects that are no maps, and interfaces.

  object(id: number): ObjectRecord | undefined {
    return this.objects.get(id);
  }

  holdObject(id: number): void {
    this.objects.hold(id);
  }

  releaseObject(id: number): void {
    this.ties.release(id);
  }

  tie(object: number, map: number, key: Buffer): void {
    this.ties.tie(object, map, key);
  }

  untie(object: number, map: number, key: Buffer): void {
    this.ties.untie(object, map, key);
  }

  isTied(object: number, mapType: number): boolean {
    return this.ties.isTied(object, mapType);
  }

  hasInterface(ifindex: number): boolean {
    return this.interfaces.indexes.includes(ifindex);
  }

  // Maps.

  factsOf({ type }: Pick<MapRecord, "type">): MapFacts {
    return (mapType(type) as MapType).facts;
  }

  map(id: number): MapRecord | undefined {
    return this.maps.get(u32Key(id));
  }

  get mapCount(): number {
    return this.charges.usage.total("maps");
  }

  /** The smallest id of a map above `id`. */
  mapAfter(id: number): number | undefined {
    for (const [, map] of this.maps.from(u32Key(id + 1))) return map.id;
    return undefined;
  }

  entryCount(id: number): number {
    return this.counts.of(id);
  }

  createMap(map: MapRecord): void {
    this.maps.put(u32Key(map.id), map);
    this.watch.changed(map.id);
    this.counts.begin(map.id);
    this.charges.addMap(map, 0, 1);
    this.names.add(map);
    this.usedId("map", map.id);
    const btf = this.#btfOf(map);
    if (btf !== null) this.holdObject(btf.id);
    this.follower.created(map, this.btfBlob(map));
  }

  /** Replaces a map's record by one with the same id, name and sizes. */
  changeMap(map: MapRecord): void {
    this.maps.put(u32Key(map.id), map);
  }

  own(id: number, owner: ProgOwner): void {
    this.changeMap({ ...(this.map(id) as MapRecord), owner });
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
    if (holds > 0) this.#holds.put(u32Key(id), holds);
    else this.#free(this.#open(id));
  }

  #free(opened: OpenMap): void {
    const { map, type } = opened;
    const { id } = map;
    const entries = this.entryCount(id);
    this.charges.addMap(map, entries, -1);
    this.#holds.delete(u32Key(id));
    this.maps.delete(u32Key(id));
    this.watch.changed(id);
    this.counts.end(id);
    this.names.delete(map);
    this.garbage.add(id);
    this.interfaces.mapFreed(map);
    this.follower.freed(map);
    this.aftermath.freed(id);
    const btf = this.#btfOf(map);
    if (btf !== null) this.releaseObject(btf.id);
    const { free } = type;
    if (free === null) return;
    if (this.deferral.goesLater("maps", id, entries)) {
      this.garbage.defer(map);
      this.deferral.putOff("maps", id);
      return;
    }
    this.deferral.goAtOnce(entries);
    // Dropping references changes cells, which must not change while they are iterated.
    for (const element of [...type.stored(opened)]) free(opened, element);
  }

  /** Opens a map for a side effect, not for the command on it: deleted elements are part of its aftermath. */
  #open(id: number): OpenMap {
    return new OpenMap(this, this.map(id) as MapRecord, OPERATOR, (key) => this.aftermath.gone(id, key));
  }

  /** The next piece of deferred work; null: there is none. */
  deferred(): DeferredPiece | null {
    return this.deferral.next(() => {
      const map = this.garbage.deferred();
      if (map !== undefined) return { map };
      const object = this.objects.deferred();
      if (object !== undefined) return { object };
      const interfaces = this.interfaces.deferred();
      return interfaces === undefined ? null : { interfaces };
    });
  }
}
