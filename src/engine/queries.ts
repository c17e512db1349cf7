import { coversDirectory, type MapLimits } from "../access/map_limits.ts";
import type { Amounts } from "../access/quotas.ts";
import type { MapScope, Scope } from "../access/scopes.ts";
import { u32Key } from "../maps/cells.ts";
import { writtenCount } from "../maps/index_keys.ts";
import type { MapRecord, MapType } from "../maps/map.ts";
import type { ObjectRecord } from "../maps/object.ts";
import { mapType } from "../maps/types.ts";
import type { Target, Who } from "../syscall/command.ts";
import { type Coverage, LOOKED_AT_MAX } from "../syscall/coverage.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { missingFor } from "../syscall/permission.ts";
import { type FdRecord, OPERATOR, OpenMap, type SessionRecord, type State } from "../syscall/state.ts";
import type { AdoptAnswer, AdoptAsk } from "./adopt.ts";
import type { DriftAnswer } from "./drift.ts";
import type { Engine } from "./engine.ts";
import { readRequests } from "./frames.ts";
import type { MirrorCounts, MirrorView, Order, Ordered } from "./kernel_maps.ts";
import type { LeaseKind } from "./leases.ts";
import type { KernelMapsAnswer, MirrorStatus } from "./ports.ts";
import type { WholeReply } from "./request.ts";
import { nextTurn } from "./turns.ts";

/** Whose question it is, if there are maps that he may not see: the id of his limits. */
interface Asking {
  readonly limits?: number;
}

/** He may not see the map: this scope does not cover it. */
interface Hidden {
  readonly missing: Scope;
}

/** Questions about the state, as it is or as it was. Questions are no commands: they pass no map's door and leave no event. */
export interface Reads {
  session: { ask: { id: number }; answer: SessionView | "ended" | "unknown" };
  sessions: { ask: { after: number; limit: number }; answer: SessionView[] };
  fds: { ask: { session: number } & Asking; answer: FdView[] | "ended" | "unknown" };
  /** `scopes`: any of them must cover it; left out: read. */
  map: {
    ask: { reference: MapReference; scopes?: readonly MapScope[] } & Asking;
    answer: MapView | null | { ambiguous: number[] } | Hidden;
  };
  maps: { ask: { after: number; limit: number } & Asking; answer: MapView[] };
  pins: { ask: { after: string; limit: number } & Asking; answer: PinView[] };
  directories: { ask: { after: string; limit: number } & Asking; answer: string[] };
}

/** And what the service is asked beside: about the present alone. */
export interface Queries extends Reads {
  /** Callers' limits: all of them, in place of those before. */
  mapLimits: { ask: { limits: readonly MapLimits[] }; answer: null };
  /** Which of these maps a scope covers; null: there is no such map at present. */
  covered: { ask: { limits: number; scope: MapScope; maps: readonly number[] }; answer: (boolean | null)[] };
  /** From where sessions that live were opened; undefined: it does not live; null: it does not say. */
  peers: { ask: { sessions: readonly number[] }; answer: (string | null | undefined)[] };
  attach: { ask: { session: number }; answer: boolean };
  detach: { ask: { session: number }; answer: null };
  /** Whether real objects are opened for a session: it is the caller's, and the mirror is on. */
  opens: { ask: { session: number; caller: string }; answer: boolean };
  /** More of the elements as they were right after a page's event; null: that moment is not kept, or not any more. */
  elements: { ask: ElementsAsk; answer: ElementsAnswer | null };
  /** Nobody reads any more from the moment right after that event. */
  elementsRead: { ask: { seq: number }; answer: null };
  /** Requests in frames, that run as one: see Engine.runWhole. */
  whole: {
    ask: { frames: ArrayBuffer; length: number; map: number; seq: number } & Asking & Partial<Pick<Who, "peer">>;
    answer: WholeReply;
  };
  resync: { ask: { id: number } & Who; answer: DriftAnswer };
  drift: { ask: { id: number; limit: number } & Asking; answer: DriftAnswer | Hidden };
  cannotImport: { ask: { id: number }; answer: string | null };
  adopt: { ask: AdoptAsk; answer: AdoptAnswer };
  kernelMaps: { ask: Record<string, never>; answer: KernelMapsAnswer };
  order: { ask: Order; answer: Ordered };
  mirror: { ask: Record<string, never>; answer: MirrorView };
  stats: { ask: Record<string, never>; answer: EngineStats };
}

/** `after`: the last key that was read, in hex. */
interface ElementsAsk {
  readonly seq: number;
  readonly map: number;
  readonly after: string;
  readonly limit: number;
}

/** `count` keys and values, end to end. */
interface ElementsAnswer {
  readonly count: number;
  readonly more: boolean;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
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
  /** Elements that its pages list. */
  readonly entries: number;
  /** Of an array, of which pages list all: how many were ever written; null: it is none, or they were not counted. */
  readonly written: number | null;
  /** For how many CPUs its values are; null: they are not one for each. */
  readonly possibleCpus: number | null;
  readonly holds: number;
  /** The first of its pins, and how many there are. */
  readonly pinned: readonly string[];
  readonly pins: number;
  readonly mirror: MirrorStatus;
}

export interface PinView {
  readonly pathname: string;
  readonly map: number;
}

/** A caller's commands since the start, and what he has. */
export interface CallerStats {
  readonly caller: string;
  readonly commands: number;
  /** Of them those that ended with an errno, and of these those that were over a quota. */
  readonly refused: number;
  readonly overQuota: number;
  readonly amounts: Readonly<Amounts>;
}

export interface EngineStats {
  /** Of everybody who has sent a command since the start, or has anything. */
  readonly callers: readonly CallerStats[];
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
  /** The first of them by id, as many as were asked for; a series each is for some, not for all. */
  readonly maps: readonly { id: number; name: string; type: number; entries: number; maxEntries: number }[];
}

/** What questions about the state are answered from: the state of one moment, and what was known beside it. */
export interface Told {
  readonly state: State;
  lease(session: number): Pick<SessionView, "lease" | "leftMs">;
  mirrorStatus(mapId: number): MirrorStatus;
  /** Which maps globs cover; null where no question says whose it is. */
  readonly coverage: Coverage | null;
  mapLimits(id: number): MapLimits | undefined;
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
  const sight = Object.hasOwn(SEEN, name) ? sightOf(engine, ask as Asking) : null;
  if (sight !== null) return SEEN[name as SeenName](engine, sight, ask as never) as never;
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

  fds(told, { session, ...asking }) {
    const { state } = told;
    if (state.session(session) === undefined) return missing(state, session);
    const sight = sightOf(told, asking);
    const fds = [...state.fds(session)].map(([fd, file]) => ({
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
    const hidden = hiddenBy(told, reference, scopes, asking);
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
    for (const pin of told.state.pinned(after)) {
      if (views.length === limit) break;
      views.push(pin);
    }
    return views;
  },

  directories(told, { after, limit }) {
    const directories: string[] = [];
    for (const directory of told.state.directories(after)) {
      if (directories.length === limit) break;
      directories.push(directory);
    }
    return directories;
  },
};

type SeenName = "maps" | "pins" | "directories";

/** Pages of what somebody sees: looked for a piece a turn of the event loop, since much may stand between that he does not see. */
const SEEN: {
  [Name in SeenName]: (told: Told, sight: Sight, ask: Reads[Name]["ask"]) => Promise<Reads[Name]["answer"]>;
} = {
  async maps(told, { coverage, limits: { read } }, { after, limit }) {
    if (read === "all") return tell(told, "maps", { after, limit });
    do await nextTurn();
    while (!coverage.walk(read, after, limit));
    const views: MapView[] = [];
    for (const id of coverage.known(read, after)) {
      if (views.length === limit) break;
      views.push(mapView(told, told.state.map(id) as MapRecord));
    }
    return views;
  },

  pins: (told, { coverage, limits }, ask) =>
    pageSeen(
      ask,
      (after) => tell(told, "pins", { after, limit: LOOKED_AT_MAX }),
      ({ map }) => coverage.covers(limits.read, map),
      ({ pathname }) => pathname,
    ),

  directories: (told, { limits }, ask) =>
    pageSeen(
      ask,
      (after) => tell(told, "directories", { after, limit: LOOKED_AT_MAX }),
      (path) => coversDirectory(limits, path),
      (path) => path,
    ),
};

async function pageSeen<Row>(
  { after, limit }: { readonly after: string; readonly limit: number },
  read: (after: string) => readonly Row[],
  isSeen: (row: Row) => boolean,
  pathOf: (row: Row) => string,
): Promise<Row[]> {
  const seen: Row[] = [];
  for (let from = after; ; ) {
    await nextTurn();
    const rows = read(from);
    for (const row of rows) if (seen.length < limit && isSeen(row)) seen.push(row);
    const last = rows.at(-1);
    if (last === undefined || rows.length < LOOKED_AT_MAX || seen.length === limit) return seen;
    from = pathOf(last);
  }
}

interface Sight {
  readonly coverage: Coverage;
  readonly limits: MapLimits;
}

/** null: who asks may see everything. Limits that were taken back meanwhile let nothing be seen. */
function sightOf(told: Told, asking: Asking): Sight | null {
  const { coverage } = told;
  if (asking.limits === undefined || coverage === null) return null;
  return { coverage, limits: told.mapLimits(asking.limits) ?? NOTHING };
}

const NOTHING: MapLimits = { id: 0, read: [], write: [], pin: [], admin: false, texts: [] };

/** null: the map that is meant may be seen, if there is one. */
function hiddenBy(
  told: Told,
  reference: MapReference,
  scopes: readonly MapScope[],
  asking: Asking,
): { readonly missing: Scope } | null {
  const sight = sightOf(told, asking);
  if (sight === null) return null;
  const missing = missingFor(sight.coverage, targetOf(reference), sight.limits, scopes);
  return missing === null ? null : { missing };
}

function targetOf(reference: MapReference): Exclude<Target, { by: "fd" }> {
  if ("id" in reference) return { by: "id", id: reference.id };
  if ("name" in reference) return { by: "name", name: reference.name };
  return { by: "pinned", pathname: reference.pinned };
}

type Act<Name extends ActName> = (
  engine: Engine,
  ask: Queries[Name]["ask"],
) => Queries[Name]["answer"] | Promise<Queries[Name]["answer"]>;

const ACTS: { [Name in ActName]: Act<Name> } = {
  mapLimits(engine, { limits }) {
    engine.setMapLimits(limits);
    return null;
  },

  covered(engine, { limits: id, scope, maps }) {
    const reach = engine.mapLimits(id)?.[scope] ?? [];
    return maps.map((map) => (engine.state.map(map) === undefined ? null : engine.coverage.covers(reach, map)));
  },

  peers({ state }, { sessions }) {
    return sessions.map((id) => {
      const session = state.session(id);
      return session === undefined ? undefined : (session.peer ?? null);
    });
  },

  attach({ state, leases }, { session }) {
    if (state.session(session) === undefined) return false;
    leases.attach(session);
    return true;
  },

  detach({ leases }, { session }) {
    leases.detach(session);
    return null;
  },

  opens: (engine, { session, caller }) => engine.opensFor(session, caller),

  elements({ moments }, { seq, map, after, limit }) {
    const outcome = moments.read(seq, map, Buffer.from(after, "hex"), limit);
    if (outcome === null || outcome.errno !== 0) return null;
    const { key, value, out } = outcome;
    return { count: out?.count ?? 0, more: out?.more === true, keys: key as Buffer, values: value as Buffer };
  },

  elementsRead({ moments }, { seq }) {
    moments.close(seq);
    return null;
  },

  whole(engine, { frames, length, map, seq, ...asking }) {
    const requests = readRequests(frames, length).map((request) => ({ ...request, ...asking }));
    const answer = engine.runWhole(requests, { map, seq });
    return "replies" in answer ? { replies: answer.replies.map(withoutBytes) } : answer;
  },

  resync: ({ kernelMaps }, { id, ...who }) => kernelMaps.resync(id, who),

  drift(engine, { id, limit, ...asking }) {
    return hiddenBy(engine, { id }, ["read"], asking) ?? engine.kernelMaps.drift.report(id, limit);
  },

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
  return { ...session, ...told.lease(session.id), fdCount: told.state.fdCount(session.id) };
}

/** Ids of the maps that a reference means; more than one where several have the name. */
export function referenced(state: State, reference: MapReference): number[] {
  if ("id" in reference) return [reference.id];
  if ("name" in reference) return state.mapsNamed(reference.name);
  const id = state.pinAt(reference.pinned);
  return id === undefined ? [] : [id];
}

/** Paths may have 4 KiB, and whoever pins a map does not ask for it: the list of pins has all. */
export const PINNED_MAX = 64;

function mapView(told: Told, map: MapRecord): MapView {
  const type = mapType(map.type) as MapType;
  const { host } = told.state;
  const pins = told.state.pinsOf(map.id);
  return {
    ...map,
    valueBytes: type.valueBytes(map, host),
    entries: told.state.listedCount(map),
    written: type.facts.dense ? writtenCount(new OpenMap(told.state, map, OPERATOR)) : null,
    possibleCpus: type.facts.perCpu ? host.possibleCpus : null,
    holds: told.state.holds(map.id),
    pinned: [...pins].sort().slice(0, PINNED_MAX),
    pins: pins.size,
    mirror: told.mirrorStatus(map.id),
  };
}

/** Nobody asks for what was read; and a Buffer crosses threads with all of the memory that it is a view of. */
function withoutBytes<Run extends { readonly outcome: Outcome }>(run: Run): Run {
  return { ...run, outcome: { ...run.outcome, key: null, value: null } };
}
