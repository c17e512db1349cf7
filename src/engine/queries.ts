/**
 * The queries to the engine, and their answers. Most read something that commands do not, and leave no event; `whole`,
 * `adopt`, `order` and `resync` run commands. A query about all maps or pins runs in pieces, one in each turn of the
 * event loop, because there may be many that the caller does not see.
 */

import { coversDirectory, type MapLimits } from "../access/map_limits.ts";
import type { MapScope } from "../access/scopes.ts";
import type { MapRecord } from "../maps/map.ts";
import type { Who } from "../syscall/command.ts";
import { LOOKED_AT_MAX } from "../syscall/coverage.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { AdoptAnswer, AdoptAsk } from "./adopt.ts";
import type { CallerLimits } from "./caller_limits.ts";
import type { DriftAnswer } from "./comparisons.ts";
import { readRequests } from "./frames.ts";
import type { Order, Ordered } from "./kernel_map_orders.ts";
import type { KernelMaps, MirrorView } from "./kernel_maps.ts";
import type { Leases } from "./leases.ts";
import type { Moments } from "./moments.ts";
import type { KernelMapsAnswer } from "./ports.ts";
import type { Request, WholeReply } from "./request.ts";
import { type Asking, type Hidden, hiddenBy, type Sight, sightOf } from "./sight.ts";
import type { EngineStats, Stats } from "./stats.ts";
import { nextTurn } from "./turns.ts";
import { type MapView, mapView, READ_NAMES, type ReadName, type ReadSources, type Reads, tell } from "./views.ts";

/** All queries: about the state (`views.ts`), and about the present alone. */
export interface Queries extends Reads {
  /** Replaces the limits of all callers. */
  mapLimits: { ask: { limits: readonly MapLimits[] }; answer: null };
  /** Whether a scope covers each of these maps; null: the map does not exist at present. */
  covered: { ask: { limits: number; scope: MapScope; maps: readonly number[] }; answer: (boolean | null)[] };
  /** The peers that have opened sessions; null: unknown; undefined: the session does not live. */
  peers: { ask: { sessions: readonly number[] }; answer: (string | null | undefined)[] };
  attach: { ask: { session: number }; answer: boolean };
  detach: { ask: { session: number }; answer: null };
  /** Whether real objects are opened for a session: the mirror is on, and the session is the caller's. */
  opens: { ask: { session: number; caller: string }; answer: boolean };
  /** A later page of elements as of a page's event (`moments.ts`); null: that moment is not open, or no longer. */
  elements: { ask: ElementsAsk; answer: ElementsAnswer | null };
  /** Closes that moment. */
  elementsRead: { ask: { seq: number }; answer: null };
  /** Requests in frames that run as one: see Engine.runWhole. */
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

/** The parts of the engine that answer queries. */
export interface QuerySources {
  readonly reads: ReadSources & { readonly limits: CallerLimits };
  readonly leases: Leases;
  readonly moments: Moments;
  readonly kernelMaps: KernelMaps;
  readonly stats: Stats;
  readonly commands: Commands;
}

interface Commands {
  /** Engine.runWhole. */
  runWhole(requests: readonly Request[], guard: { readonly map: number; readonly seq: number }): WholeReply;
  opensFor(session: number, caller: string): boolean;
}

export type QueryName = keyof Queries;
type ActName = Exclude<QueryName, ReadName>;

const MAPS_IN_STATS_MAX = 1000;

/** Answers a query. A promise: the answer needs further turns. */
export function answerQuery<Name extends QueryName>(
  sources: QuerySources,
  name: Name,
  ask: Queries[Name]["ask"],
): Queries[Name]["answer"] | Promise<Queries[Name]["answer"]> {
  return ANSWERS[name](sources, ask);
}

type SeenName = "maps" | "pins" | "directories";

/**
 * Pages of the rows that a caller with limits may see. They are collected in pieces, one in each turn of the event loop,
 * because many rows may be hidden from the caller.
 */
const SEEN: {
  [Name in SeenName]: (reads: ReadSources, sight: Sight, ask: Reads[Name]["ask"]) => Promise<Reads[Name]["answer"]>;
} = {
  async maps(reads, { coverage, limits: { read } }, { after, limit }) {
    if (read === "all") return tell(reads, "maps", { after, limit });
    do await nextTurn();
    while (!coverage.walk(read, after, limit));
    const views: MapView[] = [];
    for (const id of coverage.known(read, after)) {
      if (views.length === limit) break;
      views.push(mapView(reads, reads.state.map(id) as MapRecord));
    }
    return views;
  },

  pins: (reads, { coverage, limits }, ask) =>
    pageSeen(
      ask,
      (after) => tell(reads, "pins", { after, limit: LOOKED_AT_MAX }),
      ({ map }) => coverage.covers(limits.read, map),
      ({ pathname }) => pathname,
    ),

  directories: (reads, { limits }, ask) =>
    pageSeen(
      ask,
      (after) => tell(reads, "directories", { after, limit: LOOKED_AT_MAX }),
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

type Act<Name extends QueryName> = (
  sources: QuerySources,
  ask: Queries[Name]["ask"],
) => Queries[Name]["answer"] | Promise<Queries[Name]["answer"]>;

const ACTS: { [Name in ActName]: Act<Name> } = {
  mapLimits({ reads }, { limits }) {
    reads.limits.set(limits);
    return null;
  },

  covered({ reads: { state, limits } }, { limits: id, scope, maps }) {
    const reach = limits.of(id)?.[scope] ?? [];
    return maps.map((map) => (state.map(map) === undefined ? null : limits.coverage.covers(reach, map)));
  },

  peers({ reads: { state } }, { sessions }) {
    return sessions.map((id) => {
      const session = state.session(id);
      return session === undefined ? undefined : (session.peer ?? null);
    });
  },

  attach({ reads: { state }, leases }, { session }) {
    if (state.session(session) === undefined) return false;
    leases.attach(session);
    return true;
  },

  detach({ leases }, { session }) {
    leases.detach(session);
    return null;
  },

  opens: ({ commands }, { session, caller }) => commands.opensFor(session, caller),

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

  whole({ commands }, { frames, length, map, seq, ...asking }) {
    const requests = readRequests(frames, length).map((request) => ({ ...request, ...asking }));
    const answer = commands.runWhole(requests, { map, seq });
    return "replies" in answer ? { replies: answer.replies.map(withoutBytes) } : answer;
  },

  resync: ({ kernelMaps }, { id, ...who }) => kernelMaps.resync(id, who),

  drift({ reads, kernelMaps }, { id, limit, ...asking }) {
    return hiddenBy(reads.limits, { id }, ["read"], asking) ?? kernelMaps.drift.report(id, limit);
  },

  cannotImport({ reads: { state }, kernelMaps }, { id }) {
    const map = state.map(id);
    return map === undefined ? null : kernelMaps.cannotImport(map);
  },

  adopt: ({ kernelMaps }, ask) => kernelMaps.adopt(ask),
  kernelMaps: ({ kernelMaps }) => kernelMaps.kernelMaps(),
  order: ({ kernelMaps }, order) => kernelMaps.order(order),
  mirror: ({ kernelMaps }) => kernelMaps.view(),

  stats: ({ stats }) => stats.collect(MAPS_IN_STATS_MAX),
};

/** A page of the rows that the caller may see. */
function seen<Name extends SeenName>(name: Name): Act<Name> {
  return ({ reads }, ask) => {
    const sight = sightOf(reads.limits, ask);
    return sight === null ? tell(reads, name, ask) : SEEN[name](reads, sight, ask);
  };
}

const READ_ACTS = Object.fromEntries(
  READ_NAMES.map((name) => [name, ({ reads }: QuerySources, ask: Reads[ReadName]["ask"]) => tell(reads, name, ask)]),
) as { [Name in ReadName]: Act<Name> };

const ANSWERS: { [Name in QueryName]: Act<Name> } = {
  ...READ_ACTS,
  maps: seen("maps"),
  pins: seen("pins"),
  directories: seen("directories"),
  ...ACTS,
};

/** Without key and value, which nobody needs: a Buffer crosses threads with all of the memory that it is a view of. */
function withoutBytes<Run extends { readonly outcome: Outcome }>(run: Run): Run {
  return { ...run, outcome: { ...run.outcome, key: null, value: null } };
}
