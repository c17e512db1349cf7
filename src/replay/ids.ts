import { ID_MAX } from "../abi/limits.ts";
import type { IdKind } from "../maps/map_facts.ts";

/** A number of the target's; or a text that stands for one, where the target is a script that will learn it. */
export type Id = number | string;

/** What is known of a map by its creation. */
export interface Shape {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
}

/** Descriptors that no table has reach from here on. */
const ABSENT_FD = 1 << 20;

/** Numbers of two sides that are each other's: learned from the first pair, and held against all that come. */
class Pairs {
  readonly there = new Map<string, string>();
  readonly #back = new Map<string, string>();

  /** Whether two numbers are one thing's; two that are met for the first time are. */
  same(recorded: string, got: string): boolean {
    const known = this.there.get(recorded);
    const back = this.#back.get(got);
    if (known === undefined && back === undefined) this.add(recorded, got);
    return known === undefined ? back === undefined : known === got;
  }

  add(recorded: string, got: string): void {
    this.there.set(recorded, got);
    this.#back.set(got, recorded);
  }
}

/** What ids a replay keeps from one run to the next. */
export interface IdsJson {
  readonly sessions: readonly (readonly [session: number, id: Id])[];
  readonly fds: readonly (readonly [session: number, fds: readonly (readonly [fd: number, id: Id])[]])[];
  readonly shapes: readonly (readonly [map: number, shape: Shape])[];
  readonly pairs: Readonly<Record<IdKind, readonly (readonly [string, string])[]>>;
}

/**
 * What the recorded numbers are in the target: sessions, their descriptors, maps, and what elements hold the numbers of.
 * A number that was given before the replay began is unknown, or, with `same`, the same there.
 */
export class Ids {
  readonly #same: boolean;
  readonly #partial: boolean;
  readonly #oneTable: boolean;
  readonly #sessions = new Map<number, Id>();
  readonly #fds = new Map<number, Map<number, Id>>();
  /** The target's descriptors of one session, until they change: a batch may name many that are not open. */
  #taken: { readonly session: number; readonly ids: ReadonlySet<Id> } | null = null;
  readonly #shapes = new Map<number, Shape>();
  readonly #pairs: Record<IdKind, Pairs> = {
    map: new Pairs(),
    prog: new Pairs(),
    cookie: new Pairs(),
    btf: new Pairs(),
    cgroup: new Pairs(),
  };

  /**
   * `partial`: commands between those that are replayed are missing. `oneTable`: the target's descriptors, of whatever
   * session, are in one table, which others use, too.
   */
  constructor({ same = false, partial = false, oneTable = false } = {}) {
    this.#same = same;
    this.#partial = partial;
    this.#oneTable = oneTable;
  }

  openSession(session: number, id: Id): void {
    this.#taken = null;
    this.#sessions.set(session, id);
    this.#fds.set(session, new Map());
  }

  session(session: number): Id | undefined {
    return this.#sessions.get(session) ?? (this.#same ? session : undefined);
  }

  /** Whether all of a session's descriptors are known: it was opened under our eyes, and nothing since was left aside. */
  isWhole(session: number): boolean {
    return this.#sessions.has(session) && !this.#partial;
  }

  endSession(session: number): void {
    this.#taken = null;
    this.#fds.delete(session);
  }

  openFd(session: number, fd: number, id: Id): void {
    this.#taken = null;
    const fds = this.#fds.get(session) ?? new Map();
    this.#fds.set(session, fds.set(fd, id));
  }

  closeFd(session: number, fd: number): void {
    this.#taken = null;
    this.#fds.get(session)?.delete(fd);
  }

  fd(session: number, fd: number): Id | undefined {
    return this.#fds.get(session)?.get(fd) ?? (this.#same && !this.#sessions.has(session) ? fd : undefined);
  }

  /** A descriptor that is not open in the target's session: the recorded number where it can be. */
  absentFd(session: number, fd: number): number {
    if (fd < 0 || fd >= ABSENT_FD) return fd;
    if (this.#oneTable) return ABSENT_FD + fd;
    if (this.#taken?.session !== session) this.#taken = { session, ids: new Set(this.#fds.get(session)?.values()) };
    return this.#taken.ids.has(fd) ? ABSENT_FD + fd : fd;
  }

  addMap(map: number, id: Id): void {
    this.#pairs.map.add(String(map), String(id));
  }

  /** undefined: it was created before the replay began. */
  map(map: number): Id | undefined {
    const id = this.#pairs.map.there.get(String(map));
    if (id === undefined) return this.#same ? map : undefined;
    return /^\d+$/.test(id) ? Number(id) : id;
  }

  /** An id that no map has, or will have soon. */
  absentMap(map: number): number {
    return ID_MAX - map;
  }

  /** The map with the greatest id that is not above this one; 0: there is none. */
  mapUpTo(map: number): Id {
    let floor = 0;
    for (const known of this.#pairs.map.there.keys())
      if (Number(known) <= map && Number(known) > floor) floor = Number(known);
    return floor === 0 ? 0 : (this.map(floor) as Id);
  }

  addShape(map: number, shape: Shape): void {
    this.#shapes.set(map, shape);
  }

  shape(map: number): Shape | undefined {
    return this.#shapes.get(map);
  }

  /** Whether two numbers are the same thing's on the two sides. */
  isSame(kind: IdKind, recorded: string, got: string): boolean {
    if (this.#same && kind === "map" && !this.#pairs.map.there.has(recorded)) return recorded === got;
    return this.#pairs[kind].same(recorded, got);
  }

  cgroup(recorded: string): string | undefined {
    return this.#pairs.cgroup.there.get(recorded);
  }

  toJSON(): IdsJson {
    const pairs = Object.entries(this.#pairs).map(([kind, { there }]) => [kind, [...there]] as const);
    return {
      sessions: [...this.#sessions],
      fds: [...this.#fds].map(([session, fds]) => [session, [...fds]] as const),
      shapes: [...this.#shapes],
      pairs: Object.fromEntries(pairs) as unknown as IdsJson["pairs"],
    };
  }

  /** Takes up what another replay has learned. */
  restore({ sessions, fds, shapes, pairs }: IdsJson): void {
    for (const [session, id] of sessions) this.openSession(session, id);
    for (const [session, open] of fds) for (const [fd, id] of open) this.openFd(session, fd, id);
    for (const [map, shape] of shapes) this.addShape(map, shape);
    for (const [kind, all] of Object.entries(pairs))
      for (const [recorded, got] of all) this.#pairs[kind as IdKind].add(recorded, got);
  }
}
