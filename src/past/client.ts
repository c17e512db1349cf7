import type { Worker } from "node:worker_threads";
import type { Moment } from "../codec/moments.ts";
import { EventsArchived } from "../engine/archives.ts";
import { FrameWriter, readReplies } from "../engine/frames.ts";
import type { Request } from "../engine/request.ts";
import type { ReadName, Reads } from "../engine/views.ts";
import { AskedById } from "../supervisor/asked_by_id.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { type AsOf, NotYet } from "./past.ts";
import type { PastReadName, PastReads } from "./reads.ts";

/** Requests of the service's thread to the thread of the past. */
export type ToPast = (PastQuestion & { readonly id: number }) | { readonly kind: "close" };

type PastQuestion =
  | { readonly kind: "run"; readonly moment: Moment; readonly frames: ArrayBuffer; readonly length: number }
  | { readonly kind: "query"; readonly moment: Moment; readonly name: ReadName; readonly ask: unknown }
  | { readonly kind: "ask"; readonly name: PastReadName; readonly ask: unknown };

/** Replies. `notYet`: the requested seq, and the log's last. */
export type FromPast =
  | { readonly id: number; readonly frames: ArrayBuffer; readonly length: number }
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly notYet: readonly [seq: number, last: number] }
  /** The oldest event that is not archived. */
  | { readonly id: number; readonly archived: number }
  | { readonly id: number; readonly fault: PartFault }
  | { readonly id: number; readonly error: string };

/** The past, for the service's thread. */
export class PastClient {
  readonly #thread: AskedById<PastQuestion, FromPast>;
  readonly #writer = new FrameWriter();

  /**
   * `told`: called with the faults of the part that the thread keeps. null: the thread keeps no part of the service,
   * and starts with the first request.
   */
  constructor(
    start: () => Worker,
    report: (message: string) => void,
    told: ((fault: PartFault | null) => void) | null,
  ) {
    const kind = told === null ? { onDemand: true as const } : { part: { name: "history", told } as const };
    this.#thread = new AskedById({ doing: "reading the past", start, read, report, ...kind });
  }

  /** Call before any request. */
  start(): void {
    this.#thread.start();
  }

  run(moment: Moment, request: Request): Promise<AsOf<Outcome>> {
    this.#writer.request(request);
    const { frames, length } = this.#writer.take();
    return this.#thread.ask({ kind: "run", moment, frames, length }, [frames]);
  }

  query<Name extends ReadName>(
    moment: Moment,
    name: Name,
    ask: Reads[Name]["ask"],
  ): Promise<AsOf<Reads[Name]["answer"]>> {
    return this.#thread.ask({ kind: "query", moment, name, ask });
  }

  ask<Name extends PastReadName>(name: Name, ask: PastReads[Name]["ask"]): Promise<PastReads[Name]["answer"]> {
    return this.#thread.ask({ kind: "ask", name, ask });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}

function read(message: FromPast): unknown {
  if ("notYet" in message) throw new NotYet(...message.notYet);
  if ("archived" in message) throw new EventsArchived(message.archived);
  if ("frames" in message) {
    const [reply] = readReplies(message.frames, message.length) as [{ seq: number; outcome: Outcome }];
    return { seq: reply.seq, answer: reply.outcome };
  }
  return "answer" in message ? message.answer : undefined;
}
