/**
 * Compares positions with the log. A position that comes back (`log/position.ts`) is accepted only if its log, life and
 * map are the same, and its event has the same hash here; otherwise the problem names the difference.
 * `streams/resumed_watch.ts` does so for watches. For an archived event the tree has the hash, so a page can continue
 * from it although its row is gone.
 */

import type { IncomingHttpHeaders } from "node:http";
import { InvalidInput } from "../../codec/invalid.ts";
import { bytes } from "../../codec/scalars.ts";
import type { EventReader } from "../../engine/events.ts";
import {
  keyPlaceText,
  type Ledger,
  ledgerKey,
  Marks,
  type Position,
  parseKeyPlace,
  parsePosition,
} from "../../log/position.ts";
import { HASH_BYTES } from "../../tlog/merkle.ts";
import { TILE_HASHES } from "../../tlog/tiles.ts";
import type { TreeReader } from "../../tree/ports.ts";
import { Type } from "../schemas/type.ts";
import { archivedProblem, Problem } from "../server/problems.ts";

/** The parts that positions are compared with. */
export interface LogParts extends LedgerParts {
  readonly events: EventReader;
  readonly tree: Pick<TreeReader, "tile">;
}

export interface LedgerParts {
  /** The ledger's id and life. Must not be called before the service is ready. */
  readonly ledger: () => Ledger;
}

/** A place in the log that a request names, by a position or a seq. */
export interface Point {
  /** The name of the request's field, such as "after". */
  readonly where: string;
  readonly seq: number;
  readonly position: Position | null;
  readonly text: string;
}

/** Why a position is not valid here. */
export interface Elsewhere {
  readonly reason: "other-log" | "other-life" | "other-event" | "no-such-event" | "other-map";
  readonly detail: string;
}

const AGAIN = "begin again without a position, or with after=0 for everything that the log has";
const FROM_FIRST = "begin again with the first page";
const BARE = /^\d{1,16}$/;
const SHOWN_CHARACTERS = 40;

/** The parameters that a stream may be begun with. */
export const FROM_FIELDS = {
  headers: Type.Object({
    "last-event-id": Type.Optional(
      Type.String({
        description:
          "The last id that was received: the stream continues after it. If it is given, `after` is ignored.",
      }),
    ),
  }),
  query: {
    after: Type.Optional(
      Type.String({
        description: "Begin after this position (an id, or a line's `position`), or after the event with this seq.",
        examples: ["17"],
      }),
    ),
  },
} as const;

/** A request with FROM_FIELDS. */
interface StartRequest {
  readonly query: { readonly after?: string };
  readonly headers: IncomingHttpHeaders;
}

/** The point after which a stream is to begin; null: the request names none. */
export function startAsked({ query, headers }: StartRequest): Point | null {
  const { after } = query;
  const id = headers["last-event-id"];
  if (typeof id === "string" && id !== "") return readPoint(id, "last-event-id");
  return after === undefined ? null : readPoint(after, "after");
}

/** Reads a position or a seq. Throws InvalidInput for any other text, and for a part of a position. */
export function readPoint(text: string, where: string): Point {
  const position = parsePosition(text);
  if (position !== null) return { where, seq: position.seq, position, text };
  const seq = BARE.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(seq)) return { where, seq, position: null, text };
  const found = JSON.stringify(text.slice(0, SHOWN_CHARACTERS));
  throw new InvalidInput(where, `a seq or a whole position required, found ${found}`);
}

/**
 * The seq after which a reader that gives this point continues. Throws the problem of a point that is not in this log
 * or is beyond its end, or of an archived event whose archive is not available. `map`: the map that the filter's name
 * or pin means now; a position of another map is refused.
 */
export async function seqBehind(parts: LogParts, point: Point, map: number | null): Promise<number> {
  const { where, seq, position } = point;
  await checkThere(parts, point, map);
  const oldest = await parts.events.oldestSeq();
  if (seq + 1 < oldest) throw archivedProblem(oldest);
  if (position !== null) refuse(where, await otherEvent(parts, position));
  return seq;
}

/** Throws if the point is within an event, of another log, life or map, or beyond the log's end. */
async function checkThere(parts: LogParts, point: Point, map: number | null): Promise<void> {
  const { where, seq, position } = point;
  checkPlace(point);
  if (position !== null) refuse(where, otherLedger(parts.ledger(), position) ?? otherMap(map, position));
  const last = await parts.events.lastSeq();
  if (seq <= last) return;
  if (position !== null) refuse(where, noSuchEvent(seq, last));
  throw new InvalidInput(where, `there is no event ${seq}: the log ends at ${last}`);
}

/**
 * For reads after a point: throws the problem of a point that is not in this log, or of another map. The event may be
 * archived, because the tree has its hash.
 */
export async function checkBehind(parts: LogParts, point: Point, map: number): Promise<void> {
  const { where, position } = point;
  await checkThere(parts, point, map);
  if (position !== null) refuse(where, await otherEvent(parts, position));
}

/** As checkBehind, for reads before a point: a seq may be beyond the log's end, but not 0. */
export async function checkInFront(parts: LogParts, point: Point, map: number): Promise<void> {
  if (point.position === null) checkNotFirst(point);
  else await checkBehind(parts, point, map);
}

function checkNotFirst({ where, seq }: Point): void {
  if (seq === 0) throw new InvalidInput(where, "1 or more required: no event is before event 1");
}

/** The first seq that is not before a point. */
export function below({ seq, position }: Point): number {
  return position?.place === "behind" ? seq + 1 : seq;
}

/** The seq before which events are read, for a request for events before a point. A seq may be beyond the log's end. */
export async function seqBefore(parts: LogParts, point: Point, map: number | null): Promise<number> {
  const { seq, position } = point;
  if (position === null) {
    checkNotFirst(point);
    return seq;
  }
  await seqBehind(parts, point, map);
  return below(point);
}

/** null: the position is of this ledger. */
export function otherLedger(ledger: Ledger, position: Pick<Position, "log" | "life">): Elsewhere | null {
  const { log, life } = ledgerKey(ledger);
  if (position.log !== log)
    return { reason: "other-log", detail: `the position is of another log: this log is ${ledger.id}` };
  if (position.life === life) return null;
  return {
    reason: "other-life",
    detail: "the position is of another life of this log: a backup was restored, and the log has continued differently",
  };
}

/** null: the position is of this map or of no map, or `map` is null. */
export function otherMap(map: number | null, position: { readonly map: number | null }): Elsewhere | null {
  if (map === null || position.map === null || position.map === map) return null;
  return {
    reason: "other-map",
    detail: `the position is of map ${position.map}, and the request now means map ${map}`,
  };
}

export function noSuchEvent(seq: number, last: number): Elsewhere {
  return {
    reason: "no-such-event",
    detail: `the position is of event ${seq}, but the log ends at ${last}: it is a copy, or was restored from a backup`,
  };
}

/**
 * null: the log's event is the position's. Throws the problem if that cannot be known, because the tree is not
 * available.
 */
async function otherEvent(parts: LogParts, position: Position): Promise<Elsewhere | null> {
  const mark = await markAt(parts, position.seq);
  if (mark === null)
    throw new Problem(
      "part-failed",
      `event ${position.seq} is archived, and the tree, which has its hash, is not available to compare it`,
    );
  return mark === position.mark ? null : notThatEvent(position.seq);
}

export function notThatEvent(seq: number): Elsewhere {
  return {
    reason: "other-event",
    detail: `event ${seq} is not the position's: the log is a copy, or was restored from a backup, and has continued differently`,
  };
}

/** An event's mark. If its row is gone, the tree has the hash; null if the tree does not answer it. */
export async function markAt({ events, tree, ledger }: LogParts, seq: number): Promise<number | null> {
  const mark = await events.mark(seq);
  if (mark !== null) return mark;
  const leaf = seq - 1;
  const name = { level: 0, index: Math.floor(leaf / TILE_HASHES), width: (leaf % TILE_HASHES) + 1 };
  const answer = await tree.tile(name);
  if (answer === null || !("bytes" in answer)) return null;
  return new Marks(ledger().life).ofLeaf(answer.bytes.subarray(-HASH_BYTES));
}

/**
 * The same for a position to be sent; 0 if the mark is not available. A position with 0 is refused when it comes back.
 */
export async function markGiven(parts: LogParts, seq: number): Promise<number> {
  return (await markAt(parts, seq).catch(() => null)) ?? 0;
}

/** Throws if the point is within an event: only watches can continue there. */
function checkPlace({ where, seq, position }: Point): void {
  if (position === null || position.place === "at" || position.place === "behind") return;
  const { map, place } = position;
  const within = place === "snapshot" ? `the snapshot of event ${seq}` : `event ${seq}`;
  throw new InvalidInput(
    where,
    `the position is within ${within}, in a watch of map ${map}: only a watch can continue there`,
  );
}

/** The place after a key, for the next page of a map's elements. */
export function nextPlace({ ledger }: LedgerParts, map: number, key: Buffer): string {
  return keyPlaceText(ledger(), map, key);
}

/** The key after which a page begins: a key in hex, or the last page's `next`, which also has the map. */
export interface AskedKey {
  readonly key: Buffer;
  readonly map: number | null;
}

/** Throws the problem of a place of another log. */
export function readKeyPlace({ ledger }: LedgerParts, text: string, where: string): AskedKey {
  const place = parseKeyPlace(text);
  if (place === null) return { key: bytes(text, where), map: null };
  refuse(where, otherLedger(ledger(), place), FROM_FIRST);
  return place;
}

/**
 * Throws if the place is of another map: a name, a pin or a descriptor may refer to a new one. `map`: the map read; 0:
 * none.
 */
export function checkKeyPlace(asked: AskedKey | null, map: number, where: string): void {
  if (asked !== null && map !== 0) refuse(where, otherMap(map, asked), FROM_FIRST);
}

/** Throws the problem of a position that is not valid here. */
function refuse(where: string, elsewhere: Elsewhere | null, again = AGAIN): void {
  if (elsewhere === null) return;
  const { reason, detail } = elsewhere;
  throw new Problem("foreign-position", `${where}: ${detail}; ${again}`, { where, reason });
}
