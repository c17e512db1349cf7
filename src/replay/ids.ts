/** The correspondence of recorded ids to the target's, learned while a replay runs. */

import { ID_MAX } from "../abi/limits.ts";
import type { IdKind } from "../maps/map_facts.ts";

/** An id in the target: a number, or a token for a number that a script will learn when it runs. */
export type Id = number | string;

/** The facts of a map that its creation records. */
export interface Shape {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
}

/** Descriptor numbers from here on are larger than any table: never open. */
const ABSENT_FD = 1 << 20;

/**
 * Pairs of ids of the same thing, one in the recording and one in the target. Two ids become a pair when both are met
 * together for the first time.
 */
class Pairs {
  readonly there = new Map<string, string>();
  readonly #back = new Map<string, string>();

  /** Whether two ids are a pair; if both are new, they become one. */
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

/** The ids that a replay saves for its next run. */
export interface IdsJson {
  readonly sessions: readonly (readonly [session: number, id: Id])[];
  readonly fds: readonly (readonly [session: number, fds: readonly (readonly [fd: number, id: Id])[]])[];
  readonly shapes: readonly (readonly [map: number, shape: Shape])[];
  readonly pairs: Readonly<Record<IdKind, readonly (readonly [string, string])[]>>;
}

/**
 * Maps recorded ids to the target's: sessions, their descriptors, maps, and ids within elements. Ids from before the
 * replay are unknown. With `same`, an unknown id stands for the same number in the target.
 */
export class Ids {
  readonly #same: boolean;
  readonly #partial: boolean;
  readonly #oneTable: boolean;
  readonly #sessions = new Map<number, Id>();
  readonly #fds = new Map<number, Map<number, Id>>();
  /**
   * The target's descriptors of one session, cached until they change: a batch may name many descriptors that are not
   * open.
   */
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
   * `partial`: the replay leaves out commands between those that it sends. `oneTable`: the target has one descriptor
   * table for all sessions, and other users use it as well.
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

  /** Whether all descriptors of a session are known: the replay has opened it and leaves out no commands. */
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

  /** A descriptor number that is not open in the target's session: the recorded number if it is free there. */
  absentFd(session: number, fd: number): number {
    if (fd < 0 || fd >= ABSENT_FD) return fd;
    if (this.#oneTable) return ABSENT_FD + fd;
    if (this.#taken?.session !== session) this.#taken = { session, ids: new Set(this.#fds.get(session)?.values()) };
    return this.#taken.ids.has(fd) ? ABSENT_FD + fd : fd;
  }

  addMap(map: number, id: Id): void {
    this.#pairs.map.add(String(map), String(id));
  }

  /** The target's id of a map; undefined if the map was created before the replay. */
  map(map: number): Id | undefined {
    const id = this.#pairs.map.there.get(String(map));
    if (id === undefined) return this.#same ? map : undefined;
    return /^\d+$/.test(id) ? Number(id) : id;
  }

  /** An id that no map and no BTF of the target has: ids are assigned from 1 up, this counts from the top down. */
  absentId(id: number): number {
    return ID_MAX - id;
  }

  /** The target's id of the known map with the greatest recorded id up to `map`; 0 if there is none. */
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

  /** Whether two ids of this kind belong to the same thing. */
  isSame(kind: IdKind, recorded: string, got: string): boolean {
    if (this.#same && kind === "map" && !this.#pairs.map.there.has(recorded)) return recorded === got;
    return this.#pairs[kind].same(recorded, got);
  }

  /** The target's id of BTF; undefined if it is not known. */
  btf(btf: number): Id | undefined {
    const id = this.#pairs.btf.there.get(String(btf));
    if (id === undefined) return this.#same ? btf : undefined;
    return /^\d+$/.test(id) ? Number(id) : id;
  }

  /** The target's id of the known BTF with the greatest recorded id up to `btf`; 0 if there is none. */
  btfUpTo(btf: number): Id {
    let floor = 0;
    for (const known of this.#pairs.btf.there.keys())
      if (Number(known) <= btf && Number(known) > floor) floor = Number(known);
    return floor === 0 ? 0 : (this.btf(floor) as Id);
  }

  cgroup(recorded: string): string | undefined {
    return this.#pairs.cgroup.there.get(recorded);
  }

  toJSON(): IdsJson {
    const { map, prog, cookie, btf, cgroup } = this.#pairs;
    return {
      sessions: [...this.#sessions],
      fds: [...this.#fds].map(([session, fds]) => [session, [...fds]] as const),
      shapes: [...this.#shapes],
      pairs: {
        map: [...map.there],
        prog: [...prog.there],
        cookie: [...cookie.there],
        btf: [...btf.there],
        cgroup: [...cgroup.there],
      },
    };
  }

  /** Loads the ids that an earlier run saved. */
  restore({ sessions, fds, shapes, pairs }: IdsJson): void {
    for (const [session, id] of sessions) this.openSession(session, id);
    for (const [session, open] of fds) for (const [fd, id] of open) this.openFd(session, fd, id);
    for (const [map, shape] of shapes) this.addShape(map, shape);
    for (const [kind, all] of Object.entries(pairs))
      for (const [recorded, got] of all) this.#pairs[kind as IdKind].add(recorded, got);
  }
}
