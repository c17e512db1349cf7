/**
 * The messages between the service's thread and the engine's thread (`supervisor/protocol.ts`). Commands and their
 * replies are frames (`frames.ts`).
 */

import type { MessagePort } from "node:worker_threads";
import type { Ledger } from "../log/position.ts";
import type { PartFault, PartName } from "../supervisor/derived_parts.ts";
import { type Answer, type Asked, Protocol, type Said, type ThreadOrders } from "../supervisor/protocol.ts";
import { EVENTS_ARCHIVED } from "./archives.ts";
import type { Frames } from "./frames.ts";
import type { Queries } from "./queries.ts";
import type { BatchFigures } from "./stats.ts";
import type { PinView } from "./views.ts";

export interface EngineOrders extends ThreadOrders {
  /** A batch of requests. */
  batch: Frames;
  /** From now on, batches come by this port, too, and their replies leave by it: an HTTP thread's (`http/fronts/`). */
  client: { readonly port: MessagePort };
}

/** An element that changed after an event, with its value right after that event, in hex; null: it did not exist. */
export interface LaggingHex {
  readonly key: string;
  readonly before: string | null;
}

/**
 * The engine's questions to the thread of the past, which come before the recovery has ended, too. Both reject with
 * EventsArchived.
 */
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

/** The engine's messages to EngineClient. */
export interface CommandNews {
  /** The replies of a batch. `seq`: the log's last event. */
  replies: Frames & { readonly figures: BatchFigures; readonly seq: number };
  /** A reply that comes later than its batch's. */
  reply: Frames & { readonly id: number };
  /**
   * The log has grown without a batch of the service's thread: by another client's batch, which has figures, by the
   * engine's own commands, by queries that run commands, or by pieces of large commands.
   */
  grown: { readonly seq: number; readonly figures?: BatchFigures };
}

/** The engine's messages to the service. */
export interface ServiceNews {
  ready: {
    readonly seq: number;
    readonly ledger: Ledger;
    readonly mirrorOff: string | null;
    readonly replayed: number;
  };
  /** The progress of the recovery: events redone, then kernel maps taken up. */
  progress: { readonly what: "events" | "kernel maps"; readonly done: number; readonly total: number };
  /** Sent when it changes. null: kernel maps follow; otherwise the reason why not. */
  mirror: { readonly off: string | null };
  report: { readonly message: string; readonly error: string };
  /** A message for the operator. */
  notice: { readonly message: string };
  /** The fault of a part that is derived from the log; null: it works. */
  part: { readonly part: PartName; readonly fault: PartFault | null };
  /** The engine accepts nothing more, and the process must end after the replies that are due. */
  ended: { readonly why: string };
}

type EngineNews = CommandNews & ServiceNews;

/** `Data`: the thread's start data, whose type belongs to an outer ring. */
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

/** The protocol without start data. It converts errors that cross between the threads. */
export const ENGINE = engineProtocol();
