/**
 * Resumes the watch of a map at a position or a seq. If the position fits (see `views/positions.ts`), the watch goes on
 * right behind it, also within an event with many changes, and across archived events if none of them touched the map.
 * If it does not fit, the watch begins anew with all elements, and says why. A seq that is archived or not there yet is
 * refused.
 */

import type { FastifyRequest } from "fastify";
import { InvalidInput } from "../../codec/invalid.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import type { MapView } from "../../engine/views.ts";
import { type Position, PositionWriter } from "../../log/position.ts";
import type { PastDoor } from "../server/ports.ts";
import { archivedProblem } from "../server/problems.ts";
import {
  type Elsewhere,
  type LogParts,
  markAt,
  noSuchEvent,
  notThatEvent,
  otherLedger,
  otherMap,
  type Point,
} from "../views/positions.ts";
import { type SightParts, sightOf } from "../views/sight.ts";

/** Why a watch cannot go on where it was asked to, and tells the map anew. */
export interface Anew {
  readonly reason: Elsewhere["reason"] | "in-snapshot" | "archived";
  readonly detail: string;
}

export const ANEW_REASONS = [
  "other-log",
  "other-life",
  "other-event",
  "no-such-event",
  "other-map",
  "in-snapshot",
  "archived",
] as const satisfies readonly Anew["reason"][];

/** Where a watch goes on. */
export interface Resumed {
  /** Behind this event. */
  readonly after: number;
  /** So many changes of the next one have been told. */
  readonly told: number;
  /** Up to here all was told before, and the position that says so. */
  readonly seq: number;
  readonly position: string;
}

export interface ResumeParts extends LogParts {
  readonly past: Pick<PastDoor, "query">;
}

/** The map that is watched, and what the request calls it. */
export interface Watched {
  readonly map: Pick<MapView, "id">;
  readonly reference: MapReference;
  readonly shown: string;
}

/** Finds where the watch of a map goes on behind a point, or why it begins anew. Throws the problem of a seq that is archived or not there yet. */
export async function resumed(parts: ResumeParts, watched: Watched, point: Point): Promise<Resumed | Anew> {
  const { events } = parts;
  const { seq, position } = point;
  const anew = position === null ? await anewBySeq(parts, watched, point) : await anewByPosition(parts, watched, point);
  if (anew !== null) return anew;
  const through = (await events.oldestSeq()) - 1;
  const changes = typeof position?.place === "object" ? position.place.changes : 0;
  const wholeSeq = changes > 0 ? seq - 1 : seq;
  const gone = {
    reason: "archived",
    detail: `what has become of the map behind event ${wholeSeq} is archived`,
  } as const;
  const isKept = wholeSeq >= through || (changes === 0 && (await events.isUntouched(watched.map.id, seq, through)));
  const mark = isKept ? await markAt(parts, seq).catch(() => null) : null;
  if (mark === null && position === null) throw archivedProblem(through + 1);
  if (mark === null) return gone;
  if (position !== null && position.mark !== mark) return notThatEvent(seq);
  const writer = new PositionWriter(parts.ledger(), watched.map.id);
  const isWatch = position !== null && position.map !== null && position.place !== "behind";
  const told = isWatch ? point.text : writer.at(seq, mark);
  return { after: Math.max(wholeSeq, through), told: changes, seq: wholeSeq, position: told };
}

/** What a position says of itself that is not so here; null: nothing. */
async function anewByPosition(parts: ResumeParts, watched: Watched, point: Point): Promise<Anew | null> {
  const { seq, position } = point;
  if (position === null) return null;
  const elsewhere = otherLedger(parts.ledger(), position);
  if (elsewhere !== null) return elsewhere;
  const last = await parts.events.lastSeq();
  if (seq > last) return noSuchEvent(seq, last);
  if (position.map === null) return otherMapThen(parts, watched, seq);
  const other = otherMap(watched.map.id, position);
  if (other !== null) return other;
  if (position.place !== "snapshot") return null;
  return { reason: "in-snapshot", detail: `the snapshot of event ${seq} was not told to its end` };
}

async function anewBySeq(parts: ResumeParts, watched: Watched, { where, seq }: Point): Promise<Anew | null> {
  const last = await parts.events.lastSeq();
  if (seq > last) throw new InvalidInput(where, `there is no event ${seq}: the log ends at ${last}`);
  return otherMapThen(parts, watched, seq);
}

/** Where nothing says of which map's watch a point is: what a name or a pin meant then. In front of the log nobody had anything. */
async function otherMapThen({ past }: ResumeParts, watched: Watched, seq: number): Promise<Anew | null> {
  const { reference, shown } = watched;
  const { id } = watched.map;
  if ("id" in reference || seq === 0) return null;
  const then = await past.query({ seq }, "map", { reference }).catch(() => null);
  const answer = then?.answer ?? null;
  if (answer !== null && "id" in answer && answer.id === id) return null;
  return { reason: "other-map", detail: `${shown} is map ${id}: that it was so right after event ${seq} is not known` };
}

/**
 * A map that has been freed since a position in its watch was told: as it was then, so that the rest, and its end, can be told. null: the
 * position says of no such map, or its watch has told the end already.
 */
export async function freedSince(
  parts: SightParts & Pick<ResumeParts, "ledger">,
  request: FastifyRequest,
  reference: MapReference,
  position: Position | null,
): Promise<MapView | null> {
  if (position === null || position.map === null || ("id" in reference && reference.id !== position.map)) return null;
  const { seq, map } = position;
  if (otherLedger(parts.ledger(), position) !== null || seq > (await parts.events.lastSeq())) return null;
  const asked = { reference: { id: map } };
  const sight = sightOf(parts, request);
  const then = await (sight === null ? parts.past.query({ seq }, "map", asked) : sight.ask({ seq }, "map", asked));
  return then.answer !== null && "id" in then.answer ? then.answer : null;
}
