import type { Worker } from "node:worker_threads";
import type { Moment } from "../codec/moments.ts";
import type { Outcome } from "../syscall/outcome.ts";
import { EventsArchived } from "./archives.ts";
import type { Request } from "./engine.ts";
import { FrameWriter, readReplies } from "./frames.ts";
import { type AsOf, NotYet } from "./past.ts";
import type { PastReadName, PastReads } from "./past_reads.ts";
import type { ReadName, Reads } from "./queries.ts";

/** What the service's thread asks the thread of the past. */
export type ToPast =
  /** The log is there, and open to be read. */
  | { readonly kind: "open" }
  | {
      readonly kind: "run";
      readonly id: number;
      readonly moment: Moment;
      readonly frames: ArrayBuffer;
      readonly length: number;
    }
  | {
      readonly kind: "query";
      readonly id: number;
      readonly moment: Moment;
      readonly name: ReadName;
      readonly ask: unknown;
    }
  | { readonly kind: "ask"; readonly id: number; readonly name: PastReadName; readonly ask: unknown }
  | { readonly kind: "close" };

/** And back. `notYet`: the seq that was asked for, and where the log ends. */
export type FromPast =
  | { readonly id: number; readonly frames: ArrayBuffer; readonly length: number }
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly notYet: readonly [seq: number, last: number] }
  /** The oldest event that is not archived. */
  | { readonly id: number; readonly archived: number }
  | { readonly id: number; readonly error: string };

interface Waiting {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
}

/** The past as the service's thread sees it. */
export class PastClient {
  readonly #worker: Worker;
  readonly #asked = new Map<number, Waiting>();
  readonly #writer = new FrameWriter();
  #last = 0;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.on("message", (message: FromPast) => this.#receive(message));
    worker.on("error", (error) => this.#lost(error.message));
    worker.on("exit", () => this.#lost("its thread has stopped"));
  }

  /** To be called when the log is there; nothing may be asked before. */
  open(): void {
    this.#post({ kind: "open" });
  }

  run(moment: Moment, request: Request): Promise<AsOf<Outcome>> {
    this.#writer.request(request);
    const { frames, length } = this.#writer.take();
    return this.#ask((id) => this.#post({ kind: "run", id, moment, frames, length }, [frames]));
  }

  query<Name extends ReadName>(
    moment: Moment,
    name: Name,
    ask: Reads[Name]["ask"],
  ): Promise<AsOf<Reads[Name]["answer"]>> {
    return this.#ask((id) => this.#post({ kind: "query", id, moment, name, ask }));
  }

  ask<Name extends PastReadName>(name: Name, ask: PastReads[Name]["ask"]): Promise<PastReads[Name]["answer"]> {
    return this.#ask((id) => this.#post({ kind: "ask", id, name, ask }));
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#worker.once("exit", () => resolve());
      this.#post({ kind: "close" });
    });
  }

  #ask<Answer>(send: (id: number) => void): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const id = ++this.#last;
      this.#asked.set(id, { resolve, reject });
      send(id);
    });
  }

  #receive(message: FromPast): void {
    const asked = this.#asked.get(message.id);
    this.#asked.delete(message.id);
    if (asked === undefined) return;
    if ("notYet" in message) asked.reject(new NotYet(...message.notYet));
    else if ("archived" in message) asked.reject(new EventsArchived(message.archived));
    else if ("error" in message) asked.reject(new Error(`reading the past: ${message.error}`));
    else if ("answer" in message) asked.resolve(message.answer as never);
    else {
      const [reply] = readReplies(message.frames, message.length) as [{ seq: number; outcome: Outcome }];
      asked.resolve({ seq: reply.seq, answer: reply.outcome } as never);
    }
  }

  #post(message: ToPast, transfer: ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #lost(why: string): void {
    for (const { reject } of this.#asked.values()) reject(new Error(`reading the past: ${why}`));
    this.#asked.clear();
  }
}
