import { u32Key } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";
import type { ObjectRecord } from "../maps/object.ts";
import type { FdRecord, SessionRecord, State } from "../syscall/state.ts";
import type { Engine } from "./engine.ts";
import type { MirrorStatus } from "./ports.ts";

/** What the service says about itself. Questions are no commands: they pass no map's door and leave no event. */
export interface Queries {
  session: { ask: { id: number }; answer: SessionView | "ended" | "unknown" };
  sessions: { ask: { after: number; limit: number }; answer: SessionView[] };
  fds: { ask: { session: number }; answer: FdView[] | "ended" | "unknown" };
  map: { ask: { reference: MapReference }; answer: MapView | null | { ambiguous: number[] } };
  maps: { ask: { after: number; limit: number }; answer: MapView[] };
  pins: { ask: { after: string; limit: number }; answer: PinView[] };
  directories: { ask: Record<string, never>; answer: string[] };
  attach: { ask: { session: number }; answer: boolean };
  detach: { ask: { session: number }; answer: null };
  resync: { ask: { id: number; caller: string }; answer: boolean };
  stats: { ask: Record<string, never>; answer: EngineStats };
}

export type MapReference = { id: number } | { name: string } | { pinned: string };

export interface SessionView extends SessionRecord {
  readonly lease: "ttl" | "attached";
  /** Milliseconds until it ends unless it is renewed; null while a stream is attached. */
  readonly leftMs: number | null;
  readonly fdCount: number;
}

export interface FdView extends FdRecord {
  readonly fd: number;
  /** What is no map. */
  readonly about: ObjectRecord | null;
}

export interface MapView extends MapRecord {
  readonly entries: number;
  readonly holds: number;
  readonly pinned: readonly string[];
  readonly mirror: MirrorStatus;
}

export interface PinView {
  readonly pathname: string;
  readonly map: number;
}

export interface EngineStats {
  /** Commands that are in the log since the start. */
  readonly commands: readonly (readonly number[])[];
  readonly seq: number;
  readonly stateSeq: number;
  readonly pendingCells: number;
  readonly sessions: number;
  readonly mirrorOff: string | null;
  /** What the kernel has refused the mirror since the start. */
  readonly mirrorRefusals: number;
  readonly mapsBehind: number;
  readonly mapCount: number;
  /** The first of them; a series each is for some, not for all. */
  readonly maps: readonly { id: number; name: string; type: number; entries: number; maxEntries: number }[];
}

export type QueryName = keyof Queries;

const MAPS_IN_STATS_MAX = 1000;

/** Answers a query between two batches. */
export function answerQuery<Name extends QueryName>(
  engine: Engine,
  name: Name,
  ask: Queries[Name]["ask"],
): Queries[Name]["answer"] {
  return HANDLERS[name](engine, ask);
}

const HANDLERS: { [Name in QueryName]: (engine: Engine, ask: Queries[Name]["ask"]) => Queries[Name]["answer"] } = {
  session({ state, leases }, { id }) {
    const session = state.session(id);
    return session === undefined ? missing(state, id) : sessionView(state, leases, session);
  },

  sessions({ state, leases }, { after, limit }) {
    const views: SessionView[] = [];
    for (const [, session] of state.sessions.from(u32Key(after + 1))) {
      if (views.length === limit) break;
      views.push(sessionView(state, leases, session));
    }
    return views;
  },

  fds({ state }, { session }) {
    if (state.session(session) === undefined) return missing(state, session);
    return [...state.fds(session)].map(([fd, file]) => ({ fd, ...file, about: state.object(file.object) ?? null }));
  },

  map(engine, { reference }) {
    const ids = referenced(engine.state, reference);
    if (ids.length > 1) return { ambiguous: ids };
    const map = ids[0] === undefined ? undefined : engine.state.map(ids[0]);
    return map === undefined ? null : mapView(engine, map, pathnamesByMap(engine.state));
  },

  maps(engine, { after, limit }) {
    const pathnames = pathnamesByMap(engine.state);
    const views: MapView[] = [];
    for (const [, map] of engine.state.maps.from(u32Key(after + 1))) {
      if (views.length === limit) break;
      views.push(mapView(engine, map, pathnames));
    }
    return views;
  },

  pins({ state }, { after, limit }) {
    const views: PinView[] = [];
    for (const pin of state.pinned()) {
      if (pin.pathname <= after) continue;
      if (views.length === limit) break;
      views.push(pin);
    }
    return views;
  },

  directories({ state }) {
    return [...state.directories()];
  },

  attach({ state, leases }, { session }) {
    if (state.session(session) === undefined) return false;
    leases.attach(session);
    return true;
  },

  detach({ leases }, { session }) {
    leases.detach(session, performance.now());
    return null;
  },

  resync(engine, { id, caller }) {
    const map = engine.state.map(id);
    if (map !== undefined) engine.resync(map, caller);
    return map !== undefined;
  },

  stats(engine) {
    return engine.stats(MAPS_IN_STATS_MAX);
  },
};

function missing(state: State, session: number): "ended" | "unknown" {
  return session > 0 && session <= state.lastId("session") ? "ended" : "unknown";
}

function sessionView(state: State, leases: Engine["leases"], session: SessionRecord): SessionView {
  const leftMs = leases.leftMs(session.id, performance.now());
  return {
    ...session,
    lease: leases.isAttached(session.id) ? "attached" : "ttl",
    leftMs: leftMs === Number.POSITIVE_INFINITY ? null : Math.round(leftMs),
    fdCount: [...state.fds(session.id)].length,
  };
}

function referenced(state: State, reference: MapReference): number[] {
  if ("id" in reference) return [reference.id];
  if ("name" in reference) return state.mapsNamed(reference.name);
  const id = state.pinAt(reference.pinned);
  return id === undefined ? [] : [id];
}

function pathnamesByMap(state: State): Map<number, string[]> {
  const pathnames = new Map<number, string[]>();
  for (const pin of state.pinned()) pathnames.set(pin.map, [...(pathnames.get(pin.map) ?? []), pin.pathname]);
  return pathnames;
}

function mapView(engine: Engine, map: MapRecord, pathnames: Map<number, string[]>): MapView {
  return {
    ...map,
    entries: engine.state.entryCount(map.id),
    holds: engine.state.holds(map.id),
    pinned: pathnames.get(map.id) ?? [],
    mirror: engine.mirrorStatus(map.id),
  };
}
