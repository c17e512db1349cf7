/**
 * Subjects and readers of streams. A subject is a set of events of the log, and the form of the messages about them
 * (`event_streams.ts` and `watch.ts` make subjects).
 */

import type { Settings } from "../../config.ts";
import type { EventPage, EventRange, MarkedRow } from "../../engine/events.ts";
import type { Load } from "../server/flight.ts";
import type { EngineDoor } from "../server/ports.ts";
import type { Outlet } from "./outlet.ts";

export interface FollowParts {
  readonly engine: Pick<EngineDoor, "seq" | "onGrowth">;
  readonly settings: Pick<Settings, "bookmarkSeconds" | "lagEventsMax">;
}

/** A stream's connection, its bytes in flight, and the signal of its end. */
export interface Reader {
  readonly outlet: Outlet;
  readonly load: Load;
  readonly signal: AbortSignal;
}

/** A message about an event. */
export interface Message {
  /** The text, in pieces if it is long. */
  readonly texts: Iterable<string>;
  /** The number of the event's messages up to this one; 0: this is the last one. */
  readonly told: number;
}

export interface Subject {
  /**
   * Streams of subjects with the same key send the same texts: their filters and forms are equal, and their callers may
   * see the same events.
   */
  readonly key: string;
  /** Whether a text may be sent later than its event was read, if isSeen() is true then. */
  readonly isKept: boolean;
  query(range: EventRange): Promise<EventPage>;
  /** Whether the caller may see the subject at present. Call before messages are sent. */
  isSeen(): Promise<boolean>;
  /** Resolves to a function that makes the messages of these events. */
  telling(rows: readonly MarkedRow[]): Promise<(row: MarkedRow) => Iterable<Message>>;
  /**
   * Whether an event's messages have too many bytes for a shared tail to keep: each stream then writes them for itself,
   * piece by piece.
   */
  isLarge(row: MarkedRow): boolean;
  /** Whether no message follows those of this event. */
  isLast(row: MarkedRow): boolean;
  bookmark(seq: number, mark: number): string;
  lagging(at: number, mark: number, last: number): string;
}

/** The point up to which a stream has sent its messages. */
export interface Place {
  /** All messages of this event were sent, */
  readonly seq: number;
  readonly mark: number;
  /** and this many messages of the next one. */
  readonly told: number;
}
