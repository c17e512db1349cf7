/** The interface of the log's readers: pages of events, and marks that positions know events by. */

import type { RowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import type { EventFilter } from "../log/event_filter.ts";

/** A stretch of the log. */
export interface EventRange {
  /** Events above this seq, */
  readonly afterSeq: number;
  /** and below that one: those next to it first. Left out: from `afterSeq` on. */
  readonly beforeSeq?: number;
  readonly limit: number;
  /** 0, too, names an event to begin behind: archived ones are not passed over. */
  readonly whole?: true;
}

/** An event, and the mark that positions in the log know it by. */
export interface MarkedRow extends EventRow {
  readonly mark: number;
}

export interface EventPage {
  /** Ascending; fewer than `limit` where they are large, or far between. */
  readonly rows: readonly MarkedRow[];
  /** Up to this seq all events have been looked at; with `beforeSeq`, from this one on. */
  readonly reached: number;
  /** Of the event at `reached`; 0: there is none, or it is archived. */
  readonly mark: number;
  /** How many events were looked at for it, those that do not match included. */
  readonly lookedAt: number;
  /** There may be more of the range beyond it. */
  readonly more: boolean;
  /** The log has passed `untilUs`: nothing that is still to come can match. */
  readonly over: boolean;
}

/**
 * What reads the log for those who ask about it, beside the engine that writes it. Rejects with EventsArchived where a range names an event
 * to begin or to end at that is archived and not at hand; a range after 0 begins with the oldest event that is available.
 */
export interface EventReader {
  /** The oldest event that is at hand, and the oldest that is not archived. */
  oldestSeq(): Promise<number>;
  keptSeq(): Promise<number>;
  query(filter: EventFilter, range: EventRange): Promise<EventPage>;
  event(seq: number): Promise<MarkedRow | null>;
  /** An event's mark, 0 in front of all; null: the log has no such event, or not any more. */
  mark(seq: number): Promise<number | null>;
  /**
   * Whether it is known of a map that no event above one seq and up to another has changed it, though these events may be archived.
   * false: one has, or nobody knows.
   */
  isUntouched(map: number, afterSeq: number, untilSeq: number): Promise<boolean>;
  lastSeq(): Promise<number>;
  /** Takes in the events that there are: what they have touched is known from then on, though they be archived. */
  takeIn(): Promise<void>;
  /** An archived event's columns as they were stored, for proofs; null: it is not at hand. */
  archivedRow(seq: number): Promise<RowBytes | null>;
  /** From where sessions were opened that the log tells of; null: it does not say. */
  peers(sessions: readonly number[]): Promise<(string | null)[]>;
  close(): Promise<void>;
}

/** Where the moments of a filter are, as the events say that are not archived. */
export interface KeptTimes {
  /** Whether an event that is not archived is stamped before the filter's first moment; whether one is at or before its last. */
  readonly since: boolean;
  readonly until: boolean;
  /** The last that is stamped at or before the last moment. */
  readonly untilSeq: number;
  readonly last: number;
}

/** Events that are archived, where their archive is at hand. All reject with EventsArchived where it is not. */
export interface ArchivedReader {
  /** The first one. */
  oldestSeq(): Promise<number>;
  /** As EventReader has it; `more` where it goes on with those that are not archived. */
  query(filter: EventFilter, range: EventRange, kept: KeptTimes): Promise<EventPage>;
  event(seq: number): Promise<MarkedRow | null>;
  mark(seq: number): Promise<number | null>;
  row(seq: number): Promise<RowBytes | null>;
  /** The last one that is stamped before a moment; 0: there is none. */
  lastBefore(timeUs: number): Promise<number>;
  /** As EventReader has it. */
  peers(sessions: readonly number[]): Promise<(string | null)[]>;
  close(): Promise<void>;
}

/** Those that are not archived. */
export interface KeptReader extends Omit<EventReader, "keptSeq" | "archivedRow"> {
  keptTimes(filter: EventFilter): Promise<KeptTimes>;
}
