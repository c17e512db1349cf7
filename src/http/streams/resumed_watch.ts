/**
 * Resumes the watch of a map at a position or a seq. If the position fits (`views/positions.ts`), the watch continues
 * right after it, also within an event with many changes, and across archived events if none of them touched the map.
 * Otherwise it begins anew with all elements, and says why. A seq that is archived or not in the log yet is refused.
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

/** Why a watch cannot continue, so that it begins anew. */
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

/** The place where a watch continues. */
export interface Resumed {
  /** After this event. */
  readonly after: number;
  /** This many changes of the next event were sent before. */
  readonly told: number;
  /** All changes up to this event were sent before. `position`: the position of that place. */
  readonly seq: number;
  readonly position: string;
}

export interface ResumeParts extends LogParts {
  readonly past: Pick<PastDoor, "query">;
}

/** The watched map, and the request's reference to it. */
export interface Watched {
  readonly map: Pick<MapView, "id">;
  readonly reference: MapReference;
  readonly shown: string;
}

/**
 * Finds the place after a point, or why the watch must begin anew. Throws the problem of a seq that is archived or not
 * in the log yet.
 */
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
    detail: `the events after ${wholeSeq} that may have changed the map are archived`,
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

/** Why a position cannot be continued; null: none of the checks here failed. */
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
  return { reason: "in-snapshot", detail: `the snapshot of event ${seq} was not sent to its end` };
}

async function anewBySeq(parts: ResumeParts, watched: Watched, { where, seq }: Point): Promise<Anew | null> {
  const last = await parts.events.lastSeq();
  if (seq > last) throw new InvalidInput(where, `there is no event ${seq}: the log ends at ${last}`);
  return otherMapThen(parts, watched, seq);
}

/**
 * For a point that names no map: whether the request's name or pin named the same map then. At seq 0 a watch may always
 * begin.
 */
async function otherMapThen({ past }: ResumeParts, watched: Watched, seq: number): Promise<Anew | null> {
  const { reference, shown } = watched;
  const { id } = watched.map;
  if ("id" in reference || seq === 0) return null;
  const then = await past.query({ seq }, "map", { reference }).catch(() => null);
  const answer = then?.answer ?? null;
  if (answer !== null && "id" in answer && answer.id === id) return null;
  return { reason: "other-map", detail: `${shown} is map ${id} now, and may have been another map after event ${seq}` };
}

/**
 * The map of a watch's position if it may have been freed since: the map as of the position, so that its last changes
 * and its end can be sent. null: the position names no such map.
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
