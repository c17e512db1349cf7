/** Pages of the log: reads matching events in chunks until the page is full, and makes their JSON. */

import type { EventReader, MarkedRow } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import type { PositionWriter } from "../../log/position.ts";
import type { PeerOf } from "../views/peers.ts";
import { type LogParts, readPoint, seqBefore, seqBehind } from "../views/positions.ts";
import { eventBytes, eventText } from "./event_text.ts";

/** The most events that one read of the log returns. */
const CHUNK_EVENTS = 64;
/** A page ends before its limit if its events have this many bytes: the event of a batch may be large. */
const PAGE_BYTES_MAX = 16 * 1024 * 1024;
/** About the bytes of an event without its key and value. */
const ROW_BYTES = 256;

/** The seqs and the limit of a page. */
export interface PageQuery {
  readonly after: number;
  readonly before?: number;
  readonly limit: number;
}

/** A page as it was requested, with positions or seqs. */
interface AskedPage {
  readonly after?: string;
  readonly before?: string;
  readonly limit: number;
}

/** Resolves positions to seqs. After seq 0 a page begins with the oldest event that is available. */
export async function readPageQuery(
  parts: LogParts,
  { after = "0", before, limit }: AskedPage,
  map: number | null,
): Promise<PageQuery> {
  const from = readPoint(after, "after");
  const isAll = from.position === null && from.seq === 0;
  const range = { after: isAll ? 0 : await seqBehind(parts, from, map), limit };
  return before === undefined ? range : { ...range, before: await seqBefore(parts, readPoint(before, "before"), map) };
}

interface Spot {
  readonly seq: number;
  readonly mark: number;
}

export interface EventPage {
  readonly rows: readonly MarkedRow[];
  readonly next: Spot | null;
  /** `behind`: the place right after this event; the next event may not exist yet. */
  readonly prev: (Spot & { readonly behind?: true }) | null;
  readonly upTo: Spot;
}

/**
 * Reads of the log after which a page ends, however few events it has. Only reads that found fewer events than asked
 * for count; for a caller who does not see all events, every read counts. Each looks at many events, or at an archive's
 * segment.
 */
const READS_MAX = 16;

/** How a page is read for its caller. */
export interface PageReading {
  /** Called with the events that the page holds. Throws the problem if they are too many bytes. */
  readonly count: (rows: readonly EventRow[]) => void;
  /** false: the caller's globs hide some events. */
  readonly seesAll: boolean;
}

/** The matching events after `after`, up to `limit`. Fewer if they are large, or if READS_MAX ends the page. */
async function pageOn(
  events: EventReader,
  filter: EventFilter,
  { after, limit }: PageQuery,
  oldest: number,
  { count, seesAll }: PageReading,
): Promise<EventPage> {
  const rows: MarkedRow[] = [];
  let bytes = 0;
  let at: Spot = { seq: after, mark: 0 };
  for (let reads = 0; ; ) {
    const most = Math.min(CHUNK_EVENTS, limit - rows.length);
    const chunk = await events.query(filter, { afterSeq: at.seq, limit: most });
    if (!seesAll || chunk.rows.length < most) reads++;
    count(chunk.rows);
    for (const row of chunk.rows) rows.push(row);
    bytes += bytesOf(chunk.rows);
    at = { seq: chunk.reached, mark: chunk.mark };
    const isFull = rows.length === limit || bytes > PAGE_BYTES_MAX || (chunk.more && reads >= READS_MAX);
    if (!isFull && chunk.more) continue;
    const prev = rows[0] ?? {
      seq: after,
      mark: after < oldest ? 0 : ((await events.mark(after)) ?? 0),
      behind: true as const,
    };
    return { rows, next: isFull ? at : null, prev: after < oldest ? null : prev, upTo: at };
  }
}

/**
 * The last matching events before `before`, up to `limit`. `last`: the event before `before`, but not beyond the log's
 * end.
 */
async function pageBack(
  events: EventReader,
  filter: EventFilter,
  { after, before, limit }: PageQuery,
  last: number,
  oldest: number,
  { count, seesAll }: PageReading,
): Promise<EventPage> {
  const chunks: (readonly MarkedRow[])[] = [];
  let found = 0;
  let bytes = 0;
  let at = before as number;
  for (let reads = 0; ; ) {
    const most = Math.min(CHUNK_EVENTS, limit - found);
    const chunk = await events.query(filter, { afterSeq: after, beforeSeq: at, limit: most });
    if (!seesAll || chunk.rows.length < most) reads++;
    count(chunk.rows);
    chunks.push(chunk.rows);
    found += chunk.rows.length;
    bytes += bytesOf(chunk.rows);
    at = chunk.reached;
    const isFull = found === limit || bytes > PAGE_BYTES_MAX || (chunk.more && reads >= READS_MAX);
    if (!isFull && chunk.more) continue;
    const rows = chunks.reverse().flat();
    const isCut = isFull && at > Math.max(after + 1, oldest);
    const upTo = { seq: last, mark: (await events.mark(last)) ?? 0 };
    return { rows, next: rows.at(-1) ?? null, prev: isCut ? { seq: at, mark: chunk.mark } : null, upTo };
  }
}

export function bytesOf(rows: readonly EventRow[]): number {
  return rows.reduce((sum, row) => sum + eventBytes(row) + ROW_BYTES, 0);
}

export function* pageText(page: EventPage, writer: PositionWriter, oldest: number, peerOf: PeerOf): Iterable<string> {
  const { rows, next, prev, upTo } = page;
  yield '{"events":[';
  for (const [at, row] of rows.entries()) {
    if (at > 0) yield ",";
    yield* eventText(row, writer.at(row.seq, row.mark), peerOf(row));
  }
  const places = {
    next: next === null ? null : writer.at(next.seq, next.mark),
    prev: prev === null ? null : prev.behind ? writer.behind(prev.seq, prev.mark) : writer.at(prev.seq, prev.mark),
    position: writer.at(upTo.seq, upTo.mark),
    oldest_seq: oldest,
  };
  yield `],${JSON.stringify(places).slice(1)}`;
}

/** Reads a page. `last`: the event before `query.before`, but not beyond the log's end. */
export function readPage(
  events: EventReader,
  filter: EventFilter,
  query: PageQuery,
  { last, oldest }: { readonly last: number; readonly oldest: number },
  reading: PageReading,
): Promise<EventPage> {
  return query.before === undefined
    ? pageOn(events, filter, query, oldest, reading)
    : pageBack(events, filter, query, last, oldest, reading);
}
