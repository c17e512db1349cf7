import type { EventRow } from "../log/event.ts";
import type { EventFilter } from "../log/event_filter.ts";

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
