import type { Worker } from "node:worker_threads";
import type { Moment } from "../codec/moments.ts";
import { FrameWriter, readReplies } from "../engine/frames.ts";
import type { Request } from "../engine/request.ts";
import type { ReadName, Reads } from "../engine/views.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import type { Asker } from "../supervisor/protocol.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { AsOf } from "./past.ts";
import { type AsOfReads, PAST, type PastProtocol } from "./protocol.ts";
import type { PastReadName, PastReads } from "./reads.ts";

/** The past as the service's thread sees it. */
export class PastClient {
  readonly #thread: AskedThread<PastProtocol>;
  /** The same thread, for questions whose name is not known here. */
  readonly #asOf: Asker<AsOfReads>;
  readonly #reads: Asker<PastReads>;
  readonly #writer = new FrameWriter();

  /**
   * `told`: called with the faults of the part that the thread keeps. null: the thread keeps no part of the service.
   */
  constructor(
    start: () => Worker,
    report: (message: string) => void,
    told: ((fault: PartFault | null) => void) | null,
  ) {
    const part = told === null ? {} : { part: { name: "history", told } as const };
    this.#thread = new AskedThread(PAST, { start, report, listeners: {}, answers: {}, onDemand: true, ...part });
    this.#asOf = this.#thread;
    this.#reads = this.#thread;
  }

  /** The last event that the history is known to include. */
  get seq(): number {
    return this.#thread.seq;
  }

  /** Starts the thread. Otherwise the first request does. */
  start(): void {
    this.#thread.start();
  }

  async run(moment: Moment, request: Request): Promise<AsOf<Outcome>> {
    this.#writer.request(request);
    const asked = this.#writer.take();
    const { frames, length } = await this.#thread.ask("run", { moment, ...asked }, [asked.frames]);
    const [reply] = readReplies(frames, length);
    if (reply === undefined || !("outcome" in reply)) throw new Error("reading the past: a reply without an outcome");
    return { seq: reply.seq, answer: reply.outcome };
  }

  query<Name extends ReadName>(
    moment: Moment,
    name: Name,
    ask: Reads[Name]["ask"],
  ): Promise<AsOf<Reads[Name]["answer"]>> {
    return this.#asOf.ask(name, { moment, ask });
  }

  ask<Name extends PastReadName>(name: Name, ask: PastReads[Name]["ask"]): Promise<PastReads[Name]["answer"]> {
    return this.#reads.ask(name, ask);
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
