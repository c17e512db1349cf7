import type { Moment } from "../codec/moments.ts";
import { type ArchivedPlaces, EVENTS_ARCHIVED } from "../engine/archives.ts";
import type { ReadName, Reads } from "../engine/views.ts";
import { crossing, type Nothing, Protocol, type ThreadOrders } from "../supervisor/protocol.ts";
import { type AsOf, HistoryBehind, NotYet } from "./past.ts";
import type { PastReads } from "./reads.ts";

interface PastData {
  readonly data: string;
  /** The places of archived events, for a past that begins at event 1; null: it begins after the archived events. */
  readonly archived: ArchivedPlaces | null;
}

/** Requests or replies, as engine/frames.ts has them. */
interface Frames {
  readonly frames: ArrayBuffer;
  readonly length: number;
}

/** The engine's questions about its state, as of a moment. */
export type AsOfReads = {
  readonly [Name in ReadName]: {
    readonly ask: { readonly moment: Moment; readonly ask: Reads[Name]["ask"] };
    readonly answer: AsOf<Reads[Name]["answer"]>;
  };
};

interface PastQuestions extends AsOfReads, PastReads {
  /** A command that only reads, and its reply. */
  run: { ask: { readonly moment: Moment } & Frames; answer: Frames };
}

export interface PastProtocol {
  readonly data: PastData;
  readonly questions: PastQuestions;
  readonly inquiries: Nothing;
  readonly orders: ThreadOrders;
  readonly news: Nothing;
}

export const PAST = new Protocol<PastProtocol>({
  thread: "past",
  doing: "reading the past",
  errors: [
    EVENTS_ARCHIVED,
    crossing(NotYet, ({ seq, last }): [number, number] => [seq, last]),
    crossing(HistoryBehind, ({ seq, wanted }): [number, number] => [seq, wanted]),
  ],
});
