import { u32Key } from "../maps/cells.ts";
import type { MapRecord, MapType } from "../maps/map.ts";
import type { ObjectRecord } from "../maps/object.ts";
import { mapType } from "../maps/types.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { FdRecord, SessionRecord, State } from "../syscall/state.ts";
import type { AdoptAnswer, AdoptAsk } from "./adopt.ts";
import type { DriftAnswer } from "./drift.ts";
import type { Engine, WholeReply } from "./engine.ts";
import { readRequests } from "./frames.ts";
import type { MirrorCounts, MirrorView, Order, Ordered } from "./kernel_maps.ts";
import type { LeaseKind } from "./leases.ts";
import type { KernelMapFacts, MirrorStatus } from "./ports.ts";

/** Questions about the state, as it is or as it was. Questions are no commands: they pass no map's door and leave no event. */
export interface Reads {
  session: { ask: { id: number }; answer: SessionView | "ended" | "unknown" };
  sessions: { ask: { after: number; limit: number }; answer: SessionView[] };
  fds: { ask: { session: number }; answer: FdView[] | "ended" | "unknown" };
  map: { ask: { reference: MapReference }; answer: MapView | null | { ambiguous: number[] } };
  maps: { ask: { after: number; limit: number }; answer: MapView[] };
  pins: { ask: { after: string; limit: number }; answer: PinView[] };
  directories: { ask: Record<string, never>; answer: string[] };
}

/** And what the service is asked beside: about the present alone. */
export interface Queries extends Reads {
  attach: { ask: { session: number }; answer: boolean };
  detach: { ask: { session: number }; answer: null };
  /** Whether real objects are opened for a session: it is the caller's, and the mirror is on. */
  opens: { ask: { session: number; caller: string }; answer: boolean };
  /** Requests in frames, that run as one: see Engine.runWhole. */
  whole: { ask: { frames: ArrayBuffer; length: number; map: number; seq: number }; answer: WholeReply };
  resync: { ask: { id: number; caller: string }; answer: DriftAnswer };
  drift: { ask: { id: number; limit: number }; answer: DriftAnswer };
  cannotImport: { ask: { id: number }; answer: string | null };
  adopt: { ask: AdoptAsk; answer: AdoptAnswer };
  kernelMaps: { ask: Record<string, never>; answer: readonly KernelMapFacts[] };
  order: { ask: Order; answer: Ordered };
  mirror: { ask: Record<string, never>; answer: MirrorView };
  stats: { ask: Record<string, never>; answer: EngineStats };
}

export type MapReference = { id: number } | { name: string } | { pinned: string };

export interface SessionView extends SessionRecord {
  /** What it lives by; null as of an earlier moment: that is not in the log. */
  readonly lease: LeaseKind | null;
  /** Milliseconds until it ends unless it is renewed; null while a stream is attached, by a process, and as of an earlier moment. */
  readonly leftMs: number | null;
  readonly fdCount: number;
}

export interface FdView extends FdRecord {
  readonly fd: number;
  /** What is no map. */
  readonly about: ObjectRecord | null;
}

export interface MapView extends MapRecord {
  /** Of a value in user space. */
  readonly valueBytes: number;
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
  /** Elements that scans have found to differ since the start. */
  readonly driftFound: number;
  /** Maps by how they stand with their kernel map. */
  readonly mirrorMaps: MirrorCounts;
  readonly mapCount: number;
  /** The first of them; a series each is for some, not for all. */
  readonly maps: readonly { id: number; name: string; type: number; entries: number; maxEntries: number }[];
}

/** What questions about the state are answered from: the state of one moment, and what was known beside it. */
export interface Told {
  readonly state: State;
  lease(session: number): Pick<SessionView, "lease" | "leftMs">;
  mirrorStatus(mapId: number): MirrorStatus;
}

export type ReadName = keyof Reads;
export type QueryName = keyof Queries;
type ActName = Exclude<QueryName, ReadName>;

const MAPS_IN_STATS_MAX = 1000;

/** Answers a query between two batches, or begins to. */
export function answerQuery<Name extends QueryName>(
  engine: Engine,
  name: Name,
  ask: Queries[Name]["ask"],
): Queries[Name]["answer"] | Promise<Queries[Name]["answer"]> {
  if (isRead(name)) return tell(engine, name, ask as never) as Queries[Name]["answer"];
  return ACTS[name as ActName](engine, ask as never) as Queries[Name]["answer"] | Promise<Queries[Name]["answer"]>;
}

/** Answers a question about the state. */
export function tell<Name extends ReadName>(told: Told, name: Name, ask: Reads[Name]["ask"]): Reads[Name]["answer"] {
  return READS[name](told, ask);
}

function isRead(name: QueryName): name is ReadName {
  return Object.hasOwn(READS, name);
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

  fds({ state }, { session }) {
    if (state.session(session) === undefined) return missing(state, session);
    return [...state.fds(session)].map(([fd, file]) => ({ fd, ...file, about: state.object(file.object) ?? null }));
  },

  map(told, { reference }) {
    const ids = referenced(told.state, reference);
    if (ids.length > 1) return { ambiguous: ids };
    const map = ids[0] === undefined ? undefined : told.state.map(ids[0]);
    return map === undefined ? null : mapView(told, map, pathnamesByMap(told.state));
  },

  maps(told, { after, limit }) {
    const pathnames = pathnamesByMap(told.state);
    const views: MapView[] = [];
    for (const [, map] of told.state.maps.from(u32Key(after + 1))) {
      if (views.length === limit) break;
      views.push(mapView(told, map, pathnames));
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
};

type Act<Name extends ActName> = (
  engine: Engine,
  ask: Queries[Name]["ask"],
) => Queries[Name]["answer"] | Promise<Queries[Name]["answer"]>;

const ACTS: { [Name in ActName]: Act<Name> } = {
  attach({ state, leases }, { session }) {
    if (state.session(session) === undefined) return false;
    leases.attach(session);
    return true;
  },

  detach({ leases }, { session }) {
    leases.detach(session, performance.now());
    return null;
  },

  opens: (engine, { session, caller }) => engine.opensFor(session, caller),

  whole(engine, { frames, length, map, seq }) {
    const answer = engine.runWhole(readRequests(frames, length), { map, seq });
    return "replies" in answer ? { replies: answer.replies.map(withoutBytes) } : answer;
  },

  resync: ({ kernelMaps }, { id, caller }) => kernelMaps.resync(id, caller),
  drift: ({ kernelMaps }, { id, limit }) => kernelMaps.drift.report(id, limit),

  cannotImport({ state, kernelMaps }, { id }) {
    const map = state.map(id);
    return map === undefined ? null : kernelMaps.cannotImport(map);
  },

  adopt: ({ kernelMaps }, ask) => kernelMaps.adopt(ask),
  kernelMaps: ({ kernelMaps }) => kernelMaps.kernelMaps(),
  order: ({ kernelMaps }, order) => kernelMaps.order(order),
  mirror: ({ kernelMaps }) => kernelMaps.view(),

  stats(engine) {
    return engine.stats(MAPS_IN_STATS_MAX);
  },
};

function missing(state: State, session: number): "ended" | "unknown" {
  return session > 0 && session <= state.lastId("session") ? "ended" : "unknown";
}

function sessionView(told: Told, session: SessionRecord): SessionView {
  return { ...session, ...told.lease(session.id), fdCount: [...told.state.fds(session.id)].length };
}

/** Ids of the maps that a reference means; more than one where several have the name. */
export function referenced(state: State, reference: MapReference): number[] {
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

function mapView(told: Told, map: MapRecord, pathnames: Map<number, string[]>): MapView {
  return {
    ...map,
    valueBytes: (mapType(map.type) as MapType).valueBytes(map, told.state.host),
    entries: told.state.entryCount(map.id),
    holds: told.state.holds(map.id),
    pinned: pathnames.get(map.id) ?? [],
    mirror: told.mirrorStatus(map.id),
  };
}

/** Nobody asks for what was read; and a Buffer crosses threads with all of the memory that it is a view of. */
function withoutBytes<Run extends { readonly outcome: Outcome }>(run: Run): Run {
  return { ...run, outcome: { ...run.outcome, key: null, value: null } };
}
