/**
 * The interfaces of the log's readers, which answer in pages of events. Each event has a mark, by which a position
 * (`log/position.ts`) recognizes it.
 */

import type { RowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import type { EventFilter } from "../log/event_filter.ts";

/** A range of the log. */
export interface EventRange {
  /** Events after this seq. */
  readonly afterSeq: number;
  /** Events before this seq, beginning with the ones next to it. Absent: the page begins at `afterSeq`. */
  readonly beforeSeq?: number;
  readonly limit: number;
  /**
   * A range after 0 begins with event 1, and is rejected if that is archived. Absent: it begins with the oldest event
   * that is available.
   */
  readonly whole?: true;
}

/** An event with its mark. */
export interface MarkedRow extends EventRow {
  readonly mark: number;
}

export interface EventPage {
  /** Ascending. Fewer than `limit` if events are large, or matches are rare. */
  readonly rows: readonly MarkedRow[];
  /** All events up to this seq were examined; with `beforeSeq`, all from this seq on. */
  readonly reached: number;
  /** The mark of the event at `reached`; 0: there is none, or it is archived. */
  readonly mark: number;
  /** The number of examined events, with those that do not match. */
  readonly lookedAt: number;
  /** Whether the range may have more events beyond `reached`. */
  readonly more: boolean;
  /** Whether the log has passed `untilUs`, so that no later event can match. */
  readonly over: boolean;
}

/**
 * Reads the log while the engine writes it. Rejects with EventsArchived if a range begins or ends at an archived event
 * that is not available. A range after 0 begins with the oldest event that is available.
 */
export interface EventReader {
  /** The oldest event that is available, and the oldest that is not archived. */
  oldestSeq(): Promise<number>;
  keptSeq(): Promise<number>;
  query(filter: EventFilter, range: EventRange): Promise<EventPage>;
  event(seq: number): Promise<MarkedRow | null>;
  /** An event's mark; 0 for seq 0; null: the log has no such event, or no longer. */
  mark(seq: number): Promise<number | null>;
  /**
   * Whether it is known that no event after `afterSeq` up to `untilSeq` has changed a map, though these events may be
   * archived. false: one has, or nobody knows.
   */
  isUntouched(map: number, afterSeq: number, untilSeq: number): Promise<boolean>;
  lastSeq(): Promise<number>;
  /**
   * Indexes all present events. The maps that they changed are known from then on, even after the events are archived.
   */
  takeIn(): Promise<void>;
  /** An archived event's columns as they were stored, for proofs; null: it is not available. */
  archivedRow(seq: number): Promise<RowBytes | null>;
  /** The peers that have opened sessions, by the log; null: unknown. */
  peers(sessions: readonly number[]): Promise<(string | null)[]>;
  close(): Promise<void>;
}

/** The place of the kept events, which are not archived, relative to a filter's time range. */
export interface KeptTimes {
  /** Whether a kept event lies before the range's first moment, and whether one lies at or before its last. */
  readonly since: boolean;
  readonly until: boolean;
  /** The last event at or before the range's last moment, and the log's last event. */
  readonly untilSeq: number;
  readonly last: number;
}

/** Reads archived events. Rejects with EventsArchived if their archive is not available. */
export interface ArchivedReader {
  /** The first archived event. */
  oldestSeq(): Promise<number>;
  /** As in EventReader. `more` is also true if the range goes on with events that are not archived. */
  query(filter: EventFilter, range: EventRange, kept: KeptTimes): Promise<EventPage>;
  event(seq: number): Promise<MarkedRow | null>;
  mark(seq: number): Promise<number | null>;
  row(seq: number): Promise<RowBytes | null>;
  /** The last event before a moment; 0: there is none. */
  lastBefore(timeUs: number): Promise<number>;
  /** As in EventReader. */
  peers(sessions: readonly number[]): Promise<(string | null)[]>;
  close(): Promise<void>;
}

/** Reads events that are not archived. */
export interface KeptReader extends Omit<EventReader, "keptSeq" | "archivedRow"> {
  keptTimes(filter: EventFilter): Promise<KeptTimes>;
}
