/** The messages to the two threads that read events: the reader those of the log, `archived` the archived ones. */
import { type ArchivedPlaces, EVENTS_ARCHIVED } from "../engine/archives.ts";
import type { EventPage, EventRange, KeptTimes, MarkedRow } from "../engine/events.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventFilter } from "../log/event_filter.ts";
import type { Crossed } from "../log/row_transfer.ts";
import { type Nothing, Protocol, type ThreadOrders } from "../supervisor/protocol.ts";

interface OfEvents {
  event: { ask: { readonly seq: number }; answer: Crossed<MarkedRow> | null };
  mark: { ask: { readonly seq: number }; answer: number | null };
  peers: { ask: { readonly sessions: readonly number[] }; answer: (string | null)[] };
  oldestSeq: { ask: Nothing; answer: number };
}

/** As KeptReader has them. */
interface ReaderQuestions extends OfEvents {
  query: { ask: { readonly filter: Crossed<EventFilter>; readonly range: EventRange }; answer: Crossed<EventPage> };
  isUntouched: {
    ask: { readonly map: number; readonly afterSeq: number; readonly untilSeq: number };
    answer: boolean;
  };
  keptTimes: { ask: { readonly filter: Crossed<EventFilter> }; answer: KeptTimes };
  lastSeq: { ask: Nothing; answer: number };
  takeIn: { ask: Nothing; answer: null };
}

export interface ReaderProtocol {
  readonly data: { readonly data: string };
  readonly questions: ReaderQuestions;
  readonly inquiries: Nothing;
  readonly orders: ThreadOrders;
  readonly news: Nothing;
}

export const READER = new Protocol<ReaderProtocol>({
  thread: "reader",
  doing: "reading the log",
  errors: [EVENTS_ARCHIVED],
});

/** As ArchivedReader has them. */
interface ArchivedQuestions extends OfEvents {
  query: {
    ask: { readonly filter: Crossed<EventFilter>; readonly range: EventRange; readonly kept: KeptTimes };
    answer: Crossed<EventPage>;
  };
  row: { ask: { readonly seq: number }; answer: Crossed<RowBytes> | null };
  lastBefore: { ask: { readonly timeUs: number }; answer: number };
}

export interface ArchivedProtocol {
  readonly data: ArchivedPlaces;
  readonly questions: ArchivedQuestions;
  readonly inquiries: Nothing;
  readonly orders: ThreadOrders;
  readonly news: Nothing;
}

export const ARCHIVED = new Protocol<ArchivedProtocol>({
  thread: "archived",
  doing: "reading archived events",
  errors: [EVENTS_ARCHIVED],
});
