import type { EventRow } from "../log/event.ts";
import { effectsIn, READS, touchedMaps } from "../log/touched.ts";

/** Which events: those that match every field given. */
export interface EventFilter {
  /** The map that was meant, or that lost elements or its life by it. */
  readonly map?: number;
  readonly session?: number;
  readonly caller?: string;
  readonly cmd?: number;
  /** 0: those that succeeded. */
  readonly errno?: number;
  /** What the key begins with; of a batch, any of its keys; or of a key that was stored or evicted. */
  readonly key?: Buffer;
  /** From this moment on, and up to that one; microseconds since the epoch, both included. */
  readonly sinceUs?: number;
  readonly untilUs?: number;
  /** Only commands that may have changed a map. */
  readonly changing?: boolean;
}

/** A stretch of the log. */
export interface EventRange {
  /** Events above this seq, */
  readonly afterSeq: number;
  /** and below that one: those next to it first. Left out: from `afterSeq` on. */
  readonly beforeSeq?: number;
  readonly limit: number;
}

export interface EventPage {
  /** Ascending; fewer than `limit` where they are large, or far between. */
  readonly rows: readonly EventRow[];
  /** Up to this seq all events have been looked at; with `beforeSeq`, from this one on. */
  readonly reached: number;
  /** There may be more of the range beyond it. */
  readonly more: boolean;
  /** The log has passed `untilUs`: nothing that is still to come can match. */
  readonly over: boolean;
}

/**
 * What reads the log for those who ask about it, beside the engine that writes it. Rejects with EventsArchived where a
 * range names an archived event to begin or to end at; behind 0 it begins with the oldest event that is not.
 */
export interface EventReader {
  /** The oldest event that is not archived. */
  oldestSeq(): Promise<number>;
  query(filter: EventFilter, range: EventRange): Promise<EventPage>;
  event(seq: number): Promise<EventRow | null>;
  lastSeq(): Promise<number>;
  close(): Promise<void>;
}

/** Whether an event matches all that can be told without an index: everything but `key`. */
export function matches(row: EventRow, filter: EventFilter): boolean {
  const { map, session, caller, cmd, errno, sinceUs = 0, untilUs = Number.POSITIVE_INFINITY } = filter;
  return (
    (session === undefined || row.session === session) &&
    (caller === undefined || row.caller === caller) &&
    (cmd === undefined || row.cmd === cmd) &&
    (errno === undefined || row.errno === errno) &&
    row.time_us >= sinceUs &&
    row.time_us <= untilUs &&
    !(filter.changing === true && READS.has(row.cmd)) &&
    (map === undefined || row.map === map || touchedMaps(row, effectsIn(row)).has(map))
  );
}
