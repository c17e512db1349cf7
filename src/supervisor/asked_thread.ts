/**
 * Threads that answer questions of another thread, such as those of the index, the past and the tree. If one dies, its
 * open questions fail, and it is started again after a pause that doubles each time. A service starts its threads when
 * it is ready, or when they are first asked: until then the engine has the cores.
 */

import type { Worker } from "node:worker_threads";
import { OpenQuestions, receive } from "./correspondence.ts";
import type { PartFault, PartName } from "./derived_parts.ts";
import type { Answer, Answers, Asked, Asker, Listeners, OwnNews, Protocol, Said, ThreadTables } from "./protocol.ts";

/** No thread can answer: it has not started, or has died and is about to be started again. */
export class NoThread extends Error {
  constructor(doing: string, why: string) {
    super(`${doing}: ${why}`);
    this.name = "NoThread";
  }
}

export interface AskedThreadOptions<Of extends ThreadTables<Of>> {
  readonly start: () => Worker;
  /** Called with a message for the log if the thread has died, and with the thread's reports. */
  readonly report: (message: string) => void;
  /** The part that the thread keeps; `told` is called when the part fails, and with null when it works again. */
  readonly part?: { readonly name: PartName; readonly told: (fault: PartFault | null) => void };
  readonly listeners: Listeners<Of["news"]>;
  /** Answers the thread's inquiries. */
  readonly answers: Answers<Of["inquiries"]>;
  /** The thread is started by the first question, unless start() was called before. */
  readonly onDemand?: boolean;
  /** Milliseconds before a dead thread is started again; doubles each time it dies soon, without having answered. */
  readonly pauseMs?: number;
}

const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 60_000;
/** A thread that has run for so long died of something else than the one before. */
const LIVED_MS = 600_000;

/** A thread that answers questions. If it dies, its open questions fail and it is started again. */
export class AskedThread<Of extends ThreadTables<Of>> implements Asker<Of["questions"]> {
  readonly #protocol: Protocol<Of>;
  readonly #options: AskedThreadOptions<Of>;
  readonly #open: OpenQuestions<Of["questions"]>;
  #worker: Worker | null = null;
  /** Why there is no worker. */
  #why = "its thread has not started";
  #closed = false;
  /** The worker has loaded: what it does at its close may matter. */
  #serves = false;
  #hasServed = false;
  /** The worker has died, and its successor has not answered yet. */
  #isDead = false;
  #seq = 0;
  #pauseMs: number;
  #startedMs = 0;
  #restarting: NodeJS.Timeout | undefined;

  constructor(protocol: Protocol<Of>, options: AskedThreadOptions<Of>) {
    this.#protocol = protocol;
    this.#options = options;
    this.#pauseMs = options.pauseMs ?? PAUSE_MS;
    this.#open = new OpenQuestions(protocol, (message, transfer) => {
      if (this.#worker === null) throw this.#none(this.#why);
      this.#worker.postMessage(message, transfer);
    });
  }

  /** Starts the thread. Does nothing if it runs already or was closed. */
  start(): void {
    if (this.#worker !== null || this.#closed) return;
    clearTimeout(this.#restarting);
    let worker: Worker;
    try {
      worker = this.#options.start();
    } catch (error) {
      this.#again((error as Error).message);
      return;
    }
    this.#worker = worker;
    this.#startedMs = performance.now();
    this.#serves = false;
    const { answers, listeners } = this.#options;
    const post = (message: object, transfer: ArrayBuffer[]): void => worker.postMessage(message, transfer);
    const end = { answers, listeners, open: this.#open, errors: this.#protocol, post };
    worker.on("message", (message: OwnNews | Asked<Of["inquiries"]> | Answer<never> | Said<Of["news"]>) => {
      if ("own" in message) return this.#hear(message);
      if ("answer" in message || "error" in message) this.#lives();
      receive(end, message);
    });
    worker.on("error", (error) => this.#lost(worker, error.message));
    worker.on("exit", () => this.#lost(worker, "its thread has stopped"));
  }

  /** The last event that the thread's part is known to include; 0: the thread has not said yet. */
  get seq(): number {
    return this.#seq;
  }

  /** Whether it, or one before it that has died, has loaded. */
  get hasServed(): boolean {
    return this.#hasServed;
  }

  /** The buffers in `transfer` move to the thread. */
  ask<Name extends keyof Of["questions"]>(
    name: Name,
    ask: Of["questions"][Name]["ask"],
    transfer: ArrayBuffer[] = [],
  ): Promise<Of["questions"][Name]["answer"]> {
    if (this.#options.onDemand === true && !this.#isDead) this.start();
    return this.#open.ask(name, ask, transfer);
  }

  /** Sends an order. If the thread is dead, the order is lost. */
  say<Name extends keyof Of["orders"]>(name: Name, fields: Of["orders"][Name]): void {
    this.#worker?.postMessage({ ...fields, say: name });
  }

  /** A thread that still loads is ended at once. */
  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#restarting);
    return new Promise((resolve) => {
      if (this.#worker === null) return resolve();
      this.#worker.once("exit", () => resolve());
      if (this.#serves) this.#worker.postMessage({ say: "close" });
      else this.#worker.terminate();
    });
  }

  #hear(news: OwnNews): void {
    if (news.own === "serves") {
      this.#serves = true;
      this.#hasServed = true;
    } else if (news.own === "part") this.#options.part?.told(news.fault);
    else if (news.own === "reached") this.#seq = news.seq;
    else this.#options.report(news.message);
  }

  /** Notes that the thread has answered: its part works again, and the pause before a restart is the shortest. */
  #lives(): void {
    this.#pauseMs = this.#options.pauseMs ?? PAUSE_MS;
    if (this.#isDead) this.#options.part?.told(null);
    this.#isDead = false;
  }

  #lost(worker: Worker, why: string): void {
    if (worker !== this.#worker) return;
    this.#worker = null;
    if (performance.now() - this.#startedMs > LIVED_MS) this.#pauseMs = this.#options.pauseMs ?? PAUSE_MS;
    this.#why = why;
    this.#open.reject(() => this.#none(why));
    if (!this.#closed) this.#again(why);
  }

  #again(why: string): void {
    this.#why = why;
    this.#isDead = true;
    const { part, report } = this.#options;
    part?.told({ part: part.name, state: "failed", detail: why, full: false });
    const seconds = this.#pauseMs / 1000;
    report(`${this.#protocol.doing}: its thread has died and is started again in ${seconds} s: ${why}`);
    this.#restarting = setTimeout(() => this.start(), this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MOST_MS);
  }

  #none(why: string): NoThread {
    return new NoThread(this.#protocol.doing, why);
  }
}
