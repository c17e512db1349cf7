/**
 * Queries about the state, and their answers: about the present state (`queries.ts`), or about an earlier one
 * (`past/past.ts`).
 */

import type { MapScope } from "../access/scopes.ts";
import { u32Key } from "../maps/cells.ts";
import { writtenCount } from "../maps/index_keys.ts";
import type { MapRecord, MapType } from "../maps/map.ts";
import type { ObjectRecord } from "../maps/object.ts";
import { mapType } from "../maps/types.ts";
import type { FdRecord } from "../syscall/fd_table.ts";
import { OPERATOR, OpenMap } from "../syscall/open_map.ts";
import type { SessionRecord, State } from "../syscall/state.ts";
import type { LeaseView } from "./leases.ts";
import { type MapReference, referenced } from "./map_reference.ts";
import type { MirrorStatus } from "./ports.ts";
import { type Asking, type Hidden, hiddenBy, type SightLimits, sightOf } from "./sight.ts";

/** Queries about the state. A query is no command: it needs no descriptor and leaves no event. */
export interface Reads {
  session: { ask: { id: number }; answer: SessionView | "ended" | "unknown" };
  sessions: { ask: { after: number; limit: number }; answer: SessionView[] };
  fds: { ask: { session: number } & Asking; answer: FdView[] | "ended" | "unknown" };
  /** `scopes`: one of them must cover the map. Absent: read. */
  map: {
    ask: { reference: MapReference; scopes?: readonly MapScope[] } & Asking;
    answer: MapView | null | { ambiguous: number[] } | Hidden;
  };
  maps: { ask: { after: number; limit: number } & Asking; answer: MapView[] };
  pins: { ask: { after: string; limit: number } & Asking; answer: PinView[] };
  directories: { ask: { after: string; limit: number } & Asking; answer: string[] };
}

/** As of an earlier moment `lease` is null, because leases are not in the log. */
export interface SessionView extends SessionRecord, LeaseView {
  readonly fdCount: number;
}

export interface FdView extends FdRecord {
  readonly fd: number;
  /** The object, if the descriptor is not a map's. */
  readonly about: ObjectRecord | null;
}

export interface MapView extends MapRecord {
  /** The size of a value in user space. */
  readonly valueBytes: number;
  /** The number of elements in its pages. */
  readonly entries: number;
  /**
   * Of an array, whose pages have all indices: the number of elements that were ever written. null: not an array, or
   * not counted.
   */
  readonly written: number | null;
  /** The number of CPUs that each value has a part for; null: values are not per CPU. */
  readonly possibleCpus: number | null;
  /** The number of references to the map. */
  readonly holds: number;
  /** The first PINNED_MAX of its pins, and the number of all. */
  readonly pinned: readonly string[];
  readonly pins: number;
  readonly mirror: MirrorStatus;
}

export interface PinView {
  readonly pathname: string;
  readonly map: number;
}

/** The state that queries are answered from, and the facts besides it that answers need. */
export interface Told {
  readonly state: State;
  readonly leases: { view(session: number): LeaseView };
  /** The limits of callers; null: queries name no caller. */
  readonly limits: SightLimits | null;
  mirrorStatus(mapId: number): MirrorStatus;
}

export type ReadName = keyof Reads;

/** Answers a query about the state. */
export function tell<Name extends ReadName>(told: Told, name: Name, ask: Reads[Name]["ask"]): Reads[Name]["answer"] {
  return READS[name](told, ask);
}

const READS: { [Name in ReadName]: (told: Told, ask: Reads[Name]["ask"]) => Reads[Name]["answer"] } = {
  session(told, { id }) {
    const session = told.state.session(id);
    return session === undefined ? missing(told.state, id) : sessionView(told, session);
  },

  sessions(told, { after, limit }) {
    const views: SessionView[] = [];
    for (const [, session] of told.state.sessions.from(u32Key(after + 1))) {
      if (views.length === limit) break;
      views.push(sessionView(told, session));
    }
    return views;
  },

  fds(told, { session, ...asking }) {
    const { state } = told;
    if (state.session(session) === undefined) return missing(state, session);
    const sight = sightOf(told.limits, asking);
    const fds = [...state.fds.of(session)].map(([fd, file]) => ({
      fd,
      ...file,
      about: state.object(file.object) ?? null,
    }));
    if (sight === null) return fds;
    const { coverage, limits } = sight;
    return fds.filter(
      ({ map }) => map === 0 || coverage.covers(limits.read, map) || coverage.covers(limits.write, map),
    );
  },

  map(told, { reference, scopes = ["read"], ...asking }) {
    const hidden = hiddenBy(told.limits, reference, scopes, asking);
    if (hidden !== null) return hidden;
    const ids = referenced(told.state, reference);
    if (ids.length > 1) return { ambiguous: ids };
    const map = ids[0] === undefined ? undefined : told.state.map(ids[0]);
    return map === undefined ? null : mapView(told, map);
  },

  maps(told, { after, limit }) {
    const views: MapView[] = [];
    for (const [, map] of told.state.maps.from(u32Key(after + 1))) {
      if (views.length === limit) break;
      views.push(mapView(told, map));
    }
    return views;
  },

  pins(told, { after, limit }) {
    const views: PinView[] = [];
    for (const pin of told.state.bpffs.pinned(after)) {
      if (views.length === limit) break;
      views.push(pin);
    }
    return views;
  },

  directories(told, { after, limit }) {
    const directories: string[] = [];
    for (const directory of told.state.bpffs.directories(after)) {
      if (directories.length === limit) break;
      directories.push(directory);
    }
    return directories;
  },
};

export const READ_NAMES = Object.keys(READS) as readonly ReadName[];

function missing(state: State, session: number): "ended" | "unknown" {
  return session > 0 && session <= state.lastId("session") ? "ended" : "unknown";
}

function sessionView(told: Told, session: SessionRecord): SessionView {
  return { ...session, ...told.leases.view(session.id), fdCount: told.state.fds.count(session.id) };
}

/** The most pins that a map's view has, because each path may have 4 KiB. The list of pins has all. */
export const PINNED_MAX = 64;

export function mapView(told: Told, map: MapRecord): MapView {
  const type = mapType(map.type) as MapType;
  const { host } = told.state;
  const pins = told.state.bpffs.pinsOf(map.id);
  return {
    ...map,
    valueBytes: type.valueBytes(map, host),
    entries: told.state.counts.listed(map),
    written: type.facts.dense ? writtenCount(new OpenMap(told.state, map, OPERATOR)) : null,
    possibleCpus: type.facts.perCpu ? host.possibleCpus : null,
    holds: told.state.holds(map.id),
    pinned: [...pins].sort().slice(0, PINNED_MAX),
    pins: pins.size,
    mirror: told.mirrorStatus(map.id),
  };
}
