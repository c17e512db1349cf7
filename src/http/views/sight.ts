/**
 * The maps that a caller with globs in its scopes may see. The engine checks commands and questions about the present
 * by the id of the caller's limits (`syscall/permission.ts`). Answers of the reader's and the past's threads (events,
 * earlier moments) are filtered here by map id, in the service's thread. The engine says which live maps the globs
 * cover; for a freed map its last name and the pin of its end decide.
 */

import type { FastifyRequest } from "fastify";
import { CMD } from "../../abi/service.ts";
import {
  type Belonging,
  covers,
  coversDirectory,
  coversName,
  coversPath,
  type MapLimits,
} from "../../access/map_limits.ts";
import type { MapScope } from "../../access/scopes.ts";
import type { Moment } from "../../codec/moments.ts";
import { EventsArchived } from "../../engine/archives.ts";
import type { EventPage, EventRange, EventReader, MarkedRow } from "../../engine/events.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import type { MapView, PinView, ReadName, Reads } from "../../engine/views.ts";
import type { EventRow } from "../../log/event.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import { namedMaps } from "../../log/event_subjects.ts";
import type { Out } from "../../syscall/outcome.ts";
import { type RefusalParts, requestText } from "../server/access.ts";
import type { EngineDoor, PastDoor } from "../server/ports.ts";
import type { Problem } from "../server/problems.ts";

/** The most events that one read returns, unless the page has a larger limit. */
const CHUNK_EVENTS = 64;
/**
 * A page ends, however few of its events the caller may see, after READ_MAX events were read or LOOKED_AT_MAX were
 * examined.
 */
const READ_MAX = 1024;
const LOOKED_AT_MAX = 20_000;
/** The maps or pins of an earlier moment that one read returns. */
const PAGE = 1000;
/** The most freed maps that are remembered. */
const FREED_MAX = 65_536;

export interface SightParts extends RefusalParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly past: PastDoor;
  readonly events: EventReader;
}

type Answer<Name extends ReadName> = Reads[Name]["answer"];

/** The answer to a question about an earlier moment: the state after the event `seq`. */
interface AsOf<Found> {
  readonly seq: number;
  readonly answer: Found;
}

const ofMap = { mapOf: ({ id }: MapView) => id, placeOf: ({ id }: MapView) => id };
const ofPin = { mapOf: ({ map }: PinView) => map, placeOf: ({ pathname }: PinView) => pathname };

/** The sight of a request's caller; null: the caller sees all maps. */
export function sightOf(parts: SightParts, request: FastifyRequest): Sight | null {
  const { limits } = request;
  return limits === undefined ? null : new Sight(parts, limits, request);
}

/** The log as a request's caller may see it. */
export function eventsSeen(parts: SightParts, request: FastifyRequest): EventReader {
  return sightOf(parts, request)?.events ?? parts.events;
}

/** Filters answers by the globs of one caller. */
export class Sight {
  readonly #parts: SightParts;
  readonly #limits: MapLimits;
  readonly #request: FastifyRequest;

  constructor(parts: SightParts, limits: MapLimits, request: FastifyRequest) {
    this.#parts = parts;
    this.#limits = limits;
    this.#request = request;
  }

  /** Equal for callers who see the same. */
  get key(): string {
    return JSON.stringify([this.#limits.id, this.#request.caller]);
  }

  /** Refuses the request: the problem of a map or path that the caller's globs do not cover. */
  refusal(scope: MapScope): Problem {
    return this.#parts.refusals.refuseMap(this.#request, scope, requestText(this.#request));
  }

  /** Throws the problem if the scope does not cover all of these maps. */
  async check(scope: MapScope, ...maps: readonly number[]): Promise<void> {
    if ((await this.covered(scope, maps)).size < new Set(maps).size) throw this.refusal(scope);
  }

  /**
   * Throws the problem if a scope does not cover the maps that a reference names (`maps`); if there are none, the name
   * or path.
   */
  async checkReference(scope: MapScope, reference: MapReference, maps: readonly number[]): Promise<void> {
    if (maps.length > 0) return this.check(scope, ...maps);
    const reach = this.#limits[scope];
    const isTold =
      "id" in reference ||
      ("name" in reference ? coversName(reach, reference.name) : coversPath(reach, reference.pinned));
    if (!isTold) throw this.refusal(scope);
  }

  /** The maps that a scope covers, out of these. */
  async covered(scope: MapScope, maps: Iterable<number>): Promise<ReadonlySet<number>> {
    const asked = [...new Set(maps)];
    const reach = this.#limits[scope];
    if (reach === "all" || asked.length === 0) return new Set(asked);
    const { id } = this.#limits;
    const answers = await this.#parts.engine.query("covered", { limits: id, scope, maps: asked });
    const found = new Set<number>();
    for (const [at, map] of asked.entries()) {
      const answer = answers[at] ?? (await this.#freed(map));
      if (answer === true || (typeof answer === "object" && answer !== null && covers(reach, answer))) found.add(map);
    }
    return found;
  }

  /**
   * The log with the events that the caller may see. Of an event about maps, all maps must be covered. An event about
   * no map must be the caller's own, unless the caller has admin.
   */
  get events(): EventReader {
    const { events } = this.#parts;
    return {
      oldestSeq: () => events.oldestSeq(),
      keptSeq: () => events.keptSeq(),
      lastSeq: () => events.lastSeq(),
      takeIn: () => events.takeIn(),
      mark: (seq) => events.mark(seq),
      isUntouched: (map, afterSeq, untilSeq) => events.isUntouched(map, afterSeq, untilSeq),
      archivedRow: (seq) => events.archivedRow(seq),
      peers: (sessions) => events.peers(sessions),
      close: () => events.close(),
      query: (filter, range) => this.#query(filter, range),
      event: async (seq) => {
        const row = await events.event(seq);
        if (row !== null && (await this.#seen([row])).length === 0) throw this.refusal("read");
        return row;
      },
    };
  }

  /** Answers a question about an earlier moment, without the maps that the caller may not see. */
  ask<Name extends ReadName>(moment: Moment, name: Name, ask: Reads[Name]["ask"]): Promise<AsOf<Answer<Name>>> {
    return Sight.#READS[name](this, moment, ask);
  }

  static readonly #READS: {
    readonly [Name in ReadName]: (sight: Sight, moment: Moment, ask: Reads[Name]["ask"]) => Promise<AsOf<Answer<Name>>>;
  } = {
    session: (sight, moment, ask) => sight.#parts.past.query(moment, "session", ask),
    sessions: (sight, moment, ask) => sight.#parts.past.query(moment, "sessions", ask),
    map: (sight, moment, ask) => sight.#map(moment, ask),
    maps: (sight, moment, { after, limit }) =>
      sight.#page(after, limit, (from) => sight.#parts.past.query(moment, "maps", { after: from, limit: PAGE }), ofMap),
    pins: (sight, moment, { after, limit }) =>
      sight.#page(after, limit, (from) => sight.#parts.past.query(moment, "pins", { after: from, limit: PAGE }), ofPin),
    directories: (sight, moment, ask) => sight.#directories(moment, ask),
    // No glob covers BTF: its routes require read without a glob, or admin.
    btfs: (sight, moment, ask) => sight.#parts.past.query(moment, "btfs", ask),
    btf: (sight, moment, ask) => sight.#parts.past.query(moment, "btf", ask),
    types: (sight, moment, ask) => sight.#types(moment, ask),
    fds: (sight, moment, ask) => sight.#fds(moment, ask),
  };

  async #map(
    moment: Moment,
    { reference, scopes: [scope = "read"] = [] }: Reads["map"]["ask"],
  ): Promise<AsOf<Answer<"map">>> {
    const found = await this.#parts.past.query(moment, "map", { reference });
    await this.checkReference(scope, reference, idsIn(found.answer));
    return found;
  }

  async #types(moment: Moment, { reference }: Reads["types"]["ask"]): Promise<AsOf<Answer<"types">>> {
    const found = await this.#parts.past.query(moment, "types", { reference });
    await this.checkReference("read", reference, idsIn(found.answer));
    return found;
  }

  async #fds(moment: Moment, ask: Reads["fds"]["ask"]): Promise<AsOf<Answer<"fds">>> {
    const { seq, answer } = await this.#parts.past.query(moment, "fds", ask);
    if (typeof answer === "string") return { seq, answer };
    const maps = answer.map(({ map }) => map);
    const read = await this.covered("read", maps);
    const written = await this.covered("write", maps);
    return { seq, answer: answer.filter(({ map }) => map === 0 || read.has(map) || written.has(map)) };
  }

  /** The first `limit` rows after the place `after`, without rows whose maps the caller may not read. */
  async #page<Row, Place>(
    after: Place,
    limit: number,
    readFrom: (place: Place) => Promise<AsOf<readonly Row[]>>,
    { mapOf, placeOf }: { readonly mapOf: (row: Row) => number; readonly placeOf: (row: Row) => Place },
  ): Promise<AsOf<Row[]>> {
    const rows: Row[] = [];
    for (let from = after; ; ) {
      const { seq, answer: read } = await readFrom(from);
      const covered = await this.covered("read", read.map(mapOf));
      for (const row of read) if (covered.has(mapOf(row)) && rows.length < limit) rows.push(row);
      const last = read.at(-1);
      if (last === undefined || read.length < PAGE || rows.length === limit) return { seq, answer: rows };
      from = placeOf(last);
    }
  }

  async #directories(moment: Moment, { after, limit }: Reads["directories"]["ask"]): Promise<AsOf<string[]>> {
    const seen: string[] = [];
    for (let from = after; ; ) {
      const { seq, answer } = await this.#parts.past.query(moment, "directories", { after: from, limit: PAGE });
      seen.push(...answer.filter((path) => coversDirectory(this.#limits, path)));
      const last = answer.at(-1);
      if (last === undefined || answer.length < PAGE || seen.length >= limit)
        return { seq, answer: seen.slice(0, limit) };
      from = last;
    }
  }

  /** `EventReader.query`: `reached` grows with every read, also if the caller may see none of the events. */
  async #query(filter: EventFilter, range: EventRange): Promise<EventPage> {
    const { limit, beforeSeq } = range;
    const isBackward = beforeSeq !== undefined;
    const seen: MarkedRow[] = [];
    let rest = range;
    let read = 0;
    let lookedAt = 0;
    for (;;) {
      const most = Math.min(Math.max(limit, CHUNK_EVENTS), READ_MAX - read);
      const page = await this.#parts.events.query(filter, { ...rest, limit: most });
      read += page.rows.length;
      lookedAt += page.lookedAt;
      const rows = await this.#seen(isBackward ? page.rows.toReversed() : page.rows);
      const taken = rows.slice(0, limit - seen.length);
      seen.push(...taken);
      const isCut = taken.length < rows.length;
      const last = isCut ? taken.at(-1) : undefined;
      const { reached, mark } = last === undefined ? page : { reached: last.seq, mark: last.mark };
      if (isCut || !page.more || seen.length === limit || read >= READ_MAX || lookedAt >= LOOKED_AT_MAX) {
        const shown = isBackward ? seen.reverse() : seen;
        return { rows: shown, reached, mark, lookedAt, more: isCut || page.more, over: !isCut && page.over };
      }
      rest = isBackward ? { ...range, beforeSeq: page.reached } : { ...range, afterSeq: page.reached };
    }
  }

  /** The events that the caller may see. The maps of an event include maps that lost elements or were freed by it. */
  async #seen<Row extends EventRow>(rows: readonly Row[]): Promise<Row[]> {
    const named = rows.map((row) => namedMaps(row));
    const covered = await this.covered(
      "read",
      named.flatMap((maps) => [...maps]),
    );
    return rows.filter((row, at) => {
      const maps = named[at] as ReadonlySet<number>;
      if (maps.size === 0) return this.#limits.admin || row.caller === this.#request.caller;
      return [...maps].every((map) => covered.has(map));
    });
  }

  /** A freed map's name and last pin; null: the log that is available has no such map. */
  async #freed(map: number): Promise<Belonging | null> {
    const { past, events } = this.#parts;
    const known = freedMaps(past);
    const remembered = known.get(map);
    if (remembered !== undefined) return remembered;
    const former = await past.ask("former", { map }).catch(unlessArchived);
    if (former === null) return null;
    const end = await events.event(former.freed).catch(unlessArchived);
    const out = end?.out == null ? null : (JSON.parse(end.out) as Out);
    // A pin keeps its map alive, so a map that was not freed by an UNLINK had no pin left.
    const isUnlinked = end?.cmd === CMD.UNLINK && end.map === map && out?.pathname !== undefined;
    const belonging = { name: former.name, pins: isUnlinked ? [out.pathname as string] : [] };
    if (known.size >= FREED_MAX) known.clear();
    known.set(map, belonging);
    return belonging;
  }
}

/** Archived events that are not available count as unknown. */
function unlessArchived(error: unknown): null {
  if (error instanceof EventsArchived) return null;
  throw error;
}

const FREED = new WeakMap<PastDoor, Map<number, Belonging>>();

/** The freed maps of a log, shared by all requests. */
function freedMaps(past: PastDoor): Map<number, Belonging> {
  const known = FREED.get(past) ?? new Map<number, Belonging>();
  FREED.set(past, known);
  return known;
}

function idsIn(answer: Answer<"map" | "types">): readonly number[] {
  if (answer === null || "missing" in answer) return [];
  if ("ambiguous" in answer) return answer.ambiguous;
  return ["map" in answer ? answer.map : answer.id];
}
