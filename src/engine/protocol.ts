import type { Ledger } from "../log/position.ts";
import type { PartFault, PartName } from "../supervisor/derived_parts.ts";
import { type Answer, type Asked, Protocol, type Said, type ThreadOrders } from "../supervisor/protocol.ts";
import { EVENTS_ARCHIVED } from "./archives.ts";
import type { Queries } from "./queries.ts";
import type { BatchFigures } from "./stats.ts";
import type { PinView } from "./views.ts";

/** As engine/frames.ts lays them out; the buffer is handed over. */
interface Frames {
  readonly frames: ArrayBuffer;
  readonly length: number;
}

export interface EngineOrders extends ThreadOrders {
  /** Requests. */
  batch: Frames;
}

/** An element that was changed after an event, as it was then, in hex. */
export interface LaggingHex {
  readonly key: string;
  readonly before: string | null;
}

/** Asked of the past, which another thread keeps. Both reject with EventsArchived, and are asked before the engine has recovered, too. */
export interface EngineInquiries {
  /**
   * Elements of a map that changed after an event, with their values right after it. "born": the map was created later.
   * null: too many to list.
   */
  lagging: { ask: { readonly map: number; readonly after: number }; answer: readonly LaggingHex[] | "born" | null };
  /** The maps and pins right after an event. */
  stood: {
    ask: { readonly seq: number };
    answer: { readonly maps: readonly number[]; readonly pins: readonly PinView[] };
  };
}

/** What EngineClient listens to. */
export interface CommandNews {
  /** A batch's. `seq`: of the log's last event. */
  replies: Frames & { readonly figures: BatchFigures; readonly seq: number };
  /** One that a batch's replies said comes later. */
  reply: Frames & { readonly id: number };
  /** The log has grown without a batch: by what the service does of its own accord, and by pieces of large commands. */
  grown: { readonly seq: number };
}

/** What the service listens to. */
export interface ServiceNews {
  ready: {
    readonly seq: number;
    readonly ledger: Ledger;
    readonly mirrorOff: string | null;
    readonly replayed: number;
  };
  /** Of the recovery: events replayed, then kernel maps taken up. */
  progress: { readonly what: "events" | "kernel maps"; readonly done: number; readonly total: number };
  /** Whether kernel maps follow: null, or why not. Told whenever it changes. */
  mirror: { readonly off: string | null };
  report: { readonly message: string; readonly error: string };
  /** What an operator should know. */
  notice: { readonly message: string };
  /** A part that is made from the log does not serve, or serves again: null. */
  part: { readonly part: PartName; readonly fault: PartFault | null };
  /** Nothing is taken on any more, and the process is to end: the answers that are due are the last ones. */
  ended: { readonly why: string };
}

type EngineNews = CommandNews & ServiceNews;

/** `Data`: what the thread is started with, which this ring does not know. */
export interface EngineProtocol<Data extends object = object> {
  readonly data: Data;
  readonly questions: Queries;
  readonly inquiries: EngineInquiries;
  readonly orders: EngineOrders;
  readonly news: EngineNews;
}

/** Messages as they arrive. */
export type ToEngine = Said<EngineOrders> | Asked<Queries> | Answer<never>;
export type FromEngine = Said<EngineNews> | Asked<EngineInquiries> | Answer<never>;

export function engineProtocol<Data extends object>(): Protocol<EngineProtocol<Data>> {
  return new Protocol({ thread: "engine", doing: "", errors: [EVENTS_ARCHIVED] });
}

/** For its errors. */
export const ENGINE = engineProtocol();
