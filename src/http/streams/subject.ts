/** What streams follow in the log, and how it is told (`event_streams.ts` and `watch.ts` make subjects); and who is told it. */

import type { Settings } from "../../config.ts";
import type { EventPage, EventRange, MarkedRow } from "../../engine/events.ts";
import type { Load } from "../server/flight.ts";
import type { EngineDoor } from "../server/ports.ts";
import type { Outlet } from "./outlet.ts";

export interface FollowParts {
  readonly engine: Pick<EngineDoor, "seq" | "onGrowth">;
  readonly settings: Pick<Settings, "bookmarkSeconds" | "lagEventsMax">;
}

/** A stream's connection, what it holds, and the signal of its end. */
export interface Reader {
  readonly outlet: Outlet;
  readonly load: Load;
  readonly signal: AbortSignal;
}

/** A message about an event. */
export interface Message {
  /** In pieces, where it is long. */
  readonly texts: Iterable<string>;
  /** So many of the event's messages have been told with it; 0: all of them. */
  readonly told: number;
}

export interface Subject {
  /**
   * Streams of one key are told the same in the same words: key, filter and form are equal, and whoever may see one of
   * them may see all that it tells.
   */
  readonly key: string;
  /** Whether what has been read may be told to a reader who takes it later, if `isSeen` then. */
  readonly isKept: boolean;
  query(range: EventRange): Promise<EventPage>;
  /** Whether it may be told at present; asked before anything is. */
  isSeen(): Promise<boolean>;
  /** How these events are told. */
  telling(rows: readonly MarkedRow[]): Promise<(row: MarkedRow) => Iterable<Message>>;
  /** Whether the messages about an event have too many bytes to be kept: each stream then writes them for itself, piece by piece. */
  isLarge(row: MarkedRow): boolean;
  /** Nothing is told behind this event. */
  isLast(row: MarkedRow): boolean;
  bookmark(seq: number, mark: number): string;
  lagging(at: number, mark: number, last: number): string;
}

/** How far a stream has been told. */
export interface Place {
  /** All of this event, */
  readonly seq: number;
  readonly mark: number;
  /** and so many messages of the next one. */
  readonly told: number;
}
