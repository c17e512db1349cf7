/**
 * Compares positions with the log. A position that comes back (`log/position.ts`) is accepted only if its log, life and
 * map are the same, and its event has the same hash here; otherwise the problem names the difference.
 * `streams/resumed_watch.ts` does this for watches. For an archived event the tree has the hash, so a page can go on
 * from one although its row is gone.
 */

import type { IncomingHttpHeaders } from "node:http";
import { Type } from "typebox";
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
import { archivedProblem, Problem } from "../server/problems.ts";

/** What positions are held against. */
export interface LogParts extends LedgerParts {
  readonly events: EventReader;
  readonly tree: Pick<TreeReader, "tile">;
}

export interface LedgerParts {
  /** Which ledger it is, once it is ready. */
  readonly ledger: () => Ledger;
}

/** A place in the log that a request names: by a position, or by a seq alone. */
export interface Point {
  /** In the request: "after". */
  readonly where: string;
  readonly seq: number;
  readonly position: Position | null;
  readonly text: string;
}

/** Why a position is not one in this log. */
export interface Elsewhere {
  readonly reason: "other-log" | "other-life" | "other-event" | "no-such-event" | "other-map";
  readonly detail: string;
}

const AGAIN = "begin again: without a position, or with after=0 for all that there is";
const FROM_FIRST = "begin with the first page again";
const BARE = /^\d{1,16}$/;
const SHOWN_CHARACTERS = 40;

/** Where a stream may be asked to begin. */
export const FROM_FIELDS = {
  headers: Type.Object({
    "last-event-id": Type.Optional(
      Type.String({
        description: "The last id that was received: the stream goes on behind it. Comes before `after`.",
      }),
    ),
  }),
  query: {
    after: Type.Optional(
      Type.String({
        description: "Begins behind this position: an id, or a line's `position`; or behind the event with this seq.",
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

/** The point that a stream is asked to begin behind; null: none is named. */
export function startAsked({ query, headers }: StartRequest): Point | null {
  const { after } = query;
  const id = headers["last-event-id"];
  if (typeof id === "string" && id !== "") return readPoint(id, "last-event-id");
  return after === undefined ? null : readPoint(after, "after");
}

/** Throws where it is neither a whole position nor a seq. */
export function readPoint(text: string, where: string): Point {
  const position = parsePosition(text);
  if (position !== null) return { where, seq: position.seq, position, text };
  const seq = BARE.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(seq)) return { where, seq, position: null, text };
  const found = JSON.stringify(text.slice(0, SHOWN_CHARACTERS));
  throw new InvalidInput(where, `a seq is needed, or a position as it was given out, whole; found ${found}`);
}

/**
 * The seq after which a reader that gives this point goes on. Throws the problem of a point that is not in this log, that is beyond the
 * log's end, or that is of an archived event whose archive is not available. `map`: the map that the filter's name or pin means now; a
 * position of another map is refused.
 */
export async function seqBehind(parts: LogParts, point: Point, map: number | null): Promise<number> {
  const { where, seq, position } = point;
  await checkThere(parts, point, map);
  const oldest = await parts.events.oldestSeq();
  if (seq + 1 < oldest) throw archivedProblem(oldest);
  if (position !== null) refuse(where, await otherEvent(parts, position));
  return seq;
}

/** Throws if the point lies within an event; if it is of another log, life or map; or if it is beyond the log's end. */
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
 * Throws the problem of a point that is not in this log, or of another map, if what is behind it is asked for. Archived events may be
 * read on, and back: the tree tells of them.
 */
export async function checkBehind(parts: LogParts, point: Point, map: number): Promise<void> {
  const { where, position } = point;
  await checkThere(parts, point, map);
  if (position !== null) refuse(where, await otherEvent(parts, position));
}

/** The same if what is in front of it is asked for; a seq may be beyond the log's end. */
export async function checkInFront(parts: LogParts, point: Point, map: number): Promise<void> {
  if (point.position === null) checkNotFirst(point);
  else await checkBehind(parts, point, map);
}

function checkNotFirst({ where, seq }: Point): void {
  if (seq === 0) throw new InvalidInput(where, "there is nothing in front of event 1: 1 or more is needed");
}

/** The first seq that is not in front of a point. */
export function below({ seq, position }: Point): number {
  return position?.place === "behind" ? seq + 1 : seq;
}

/** The seq below which events are read that are asked for in front of a point. A seq may be beyond the log's end. */
export async function seqBefore(parts: LogParts, point: Point, map: number | null): Promise<number> {
  const { seq, position } = point;
  if (position === null) {
    checkNotFirst(point);
    return seq;
  }
  await seqBehind(parts, point, map);
  return below(point);
}

/** null: it is of this ledger. */
export function otherLedger(ledger: Ledger, position: Pick<Position, "log" | "life">): Elsewhere | null {
  const { log, life } = ledgerKey(ledger);
  if (position.log !== log)
    return { reason: "other-log", detail: `it is a position in another log: this is ${ledger.id}` };
  if (position.life === life) return null;
  return {
    reason: "other-life",
    detail: "it is of another life of this log: the log was put back from a backup, and has gone on otherwise",
  };
}

/** null: it is of that map, or of none, or no map is asked for. */
export function otherMap(map: number | null, position: { readonly map: number | null }): Elsewhere | null {
  if (map === null || position.map === null || position.map === map) return null;
  return {
    reason: "other-map",
    detail: `it is a position of map ${position.map}, and what is asked for is map ${map} now`,
  };
}

export function noSuchEvent(seq: number, last: number): Elsewhere {
  return {
    reason: "no-such-event",
    detail: `it is of event ${seq}, but the log ends at ${last}: it is a copy, or was put back`,
  };
}

/** null: the event is the position's. Throws the problem of an archived one of which nobody can tell at present. */
async function otherEvent(parts: LogParts, position: Position): Promise<Elsewhere | null> {
  const mark = await markAt(parts, position.seq);
  if (mark === null)
    throw new Problem(
      "part-failed",
      `event ${position.seq} is archived, and the tree, which has its hash, does not tell whether it is the position's`,
    );
  return mark === position.mark ? null : notThatEvent(position.seq);
}

export function notThatEvent(seq: number): Elsewhere {
  return {
    reason: "other-event",
    detail: `event ${seq} is another one than the position's: the log is a copy, or was put back, and has gone on otherwise`,
  };
}

/** Of an event whose row has gone the tree tells; null: it does not. */
export async function markAt({ events, tree, ledger }: LogParts, seq: number): Promise<number | null> {
  const mark = await events.mark(seq);
  if (mark !== null) return mark;
  const leaf = seq - 1;
  const name = { level: 0, index: Math.floor(leaf / TILE_HASHES), width: (leaf % TILE_HASHES) + 1 };
  const answer = await tree.tile(name);
  if (answer === null || !("bytes" in answer)) return null;
  return new Marks(ledger().life).ofLeaf(answer.bytes.subarray(-HASH_BYTES));
}

/** The same, for a position that is given out: with 0 it is refused later, where nobody can tell at present. */
export async function markGiven(parts: LogParts, seq: number): Promise<number> {
  return (await markAt(parts, seq).catch(() => null)) ?? 0;
}

/** Events are told whole: a point within one says nothing of where to go on. */
function checkPlace({ where, seq, position }: Point): void {
  if (position === null || position.place === "at" || position.place === "behind") return;
  const { map, place } = position;
  const within = place === "snapshot" ? `the snapshot of event ${seq}` : `event ${seq}`;
  throw new InvalidInput(
    where,
    `it is a position within ${within}, of a watch of map ${map}: only a watch goes on there`,
  );
}

/** Where the next page of a map's elements begins. */
export function nextPlace({ ledger }: LedgerParts, map: number, key: Buffer): string {
  return keyPlaceText(ledger(), map, key);
}

/** A key that a page of elements begins behind: given as such, or by the last page's `next`, which also says of which map. */
export interface AskedKey {
  readonly key: Buffer;
  readonly map: number | null;
}

/** Throws the problem of a place in another log. */
export function readKeyPlace({ ledger }: LedgerParts, text: string, where: string): AskedKey {
  const place = parseKeyPlace(text);
  if (place === null) return { key: bytes(text, where), map: null };
  refuse(where, otherLedger(ledger(), place), FROM_FIRST);
  return place;
}

/** Throws the problem of a place in another map: a name, a pin or a descriptor may have got one. `map`: the one that was read; 0: none. */
export function checkKeyPlace(asked: AskedKey | null, map: number, where: string): void {
  if (asked !== null && map !== 0) refuse(where, otherMap(map, asked), FROM_FIRST);
}

/** Throws the problem of a position that is elsewhere. */
function refuse(where: string, elsewhere: Elsewhere | null, again = AGAIN): void {
  if (elsewhere === null) return;
  const { reason, detail } = elsewhere;
  throw new Problem("foreign-position", `${where}: ${detail}; ${again}`, { where, reason });
}
