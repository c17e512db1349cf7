/**
 * Threads that answer questions of another thread, such as those of the index, the past and the tree. If one dies, its
 * open questions fail, and it is started again after a pause that doubles each time. `gate.ts` says when the threads of
 * a service load and begin.
 */

import type { Worker } from "node:worker_threads";
import { PartFailed, type PartFault, type PartName } from "./derived_parts.ts";

/** A thread's answer to the question with this id: an error, or further fields that `read` takes the answer from. */
interface Answering {
  readonly id: number;
  readonly error?: string;
  /** The question failed because the part that the thread keeps has failed. */
  readonly fault?: PartFault;
}

/** A thread's messages about the part that it keeps, sent beside its answers. */
export type OfPart =
  | { readonly kind: "part"; readonly fault: PartFault | null }
  | { readonly kind: "part report"; readonly message: string };

interface Waiting {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
}

/** No thread can answer: it has not started, or has died and is about to be started again. */
export class NoThread extends Error {
  constructor(doing: string, why: string) {
    super(`${doing}: ${why}`);
    this.name = "NoThread";
  }
}

export interface AskedThreadOptions<Answer extends Answering> {
  /** How the messages of its errors begin, such as "reading the index". */
  readonly doing: string;
  readonly start: () => Worker;
  /** Makes the answer that `ask` resolves to; may throw. */
  readonly read: (answer: Answer) => unknown;
  /** Called with a message for the log if the thread has died, and with reports of its part. */
  readonly report: (message: string) => void;
  /** The part that the thread keeps; `told` is called when the part fails, and with null when it works again. */
  readonly part?: { readonly name: PartName; readonly told: (fault: PartFault | null) => void };
  /** The thread is started by the first question. */
  readonly onDemand?: true;
  /** Milliseconds before a dead thread is started again; doubles each time it dies without having answered. */
  readonly pauseMs?: number;
}

const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 60_000;

/** A thread that answers questions. If it dies, its open questions fail and it is started again. */
export class AskedThread<Question extends object, Answer extends Answering> {
  readonly #options: AskedThreadOptions<Answer>;
  #worker: Worker | null = null;
  /** Why there is no worker. */
  #why = "its thread has not started";
  readonly #asked = new Map<number, Waiting>();
  #last = 0;
  #closed = false;
  /** The worker has died, and its successor has not answered yet. */
  #isDead = false;
  #pauseMs: number;
  #restarting: NodeJS.Timeout | undefined;

  constructor(options: AskedThreadOptions<Answer>) {
    this.#options = options;
    this.#pauseMs = options.pauseMs ?? PAUSE_MS;
  }

  /** Starts the thread; does nothing if it runs already. */
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
    worker.on("message", (message: Answer | OfPart) => {
      if (!("kind" in message) || (message.kind !== "part" && message.kind !== "part report"))
        this.#receive(message as Answer);
      else if (message.kind === "part") this.#options.part?.told(message.fault);
      else this.#options.report(message.message);
    });
    worker.on("error", (error) => this.#lost(worker, error.message));
    worker.on("exit", () => this.#lost(worker, "its thread has stopped"));
  }

  ask<Result>(question: Question, transfer: ArrayBuffer[] = []): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (this.#options.onDemand === true && !this.#isDead) this.start();
      if (this.#worker === null) throw this.#none(this.#why);
      const id = ++this.#last;
      this.#asked.set(id, { resolve, reject });
      this.#worker.postMessage({ ...question, id }, transfer);
    });
  }

  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#restarting);
    return new Promise((resolve) => {
      if (this.#worker === null) return resolve();
      this.#worker.once("exit", () => resolve());
      this.#worker.postMessage({ kind: "close" });
    });
  }

  #receive(answer: Answer): void {
    const asked = this.#asked.get(answer.id);
    this.#asked.delete(answer.id);
    this.#pauseMs = this.#options.pauseMs ?? PAUSE_MS;
    if (this.#isDead) this.#options.part?.told(null);
    this.#isDead = false;
    try {
      if (answer.fault !== undefined) throw new PartFailed(answer.fault);
      if (answer.error !== undefined) throw new Error(`${this.#options.doing}: ${answer.error}`);
      asked?.resolve(this.#options.read(answer) as never);
    } catch (error) {
      asked?.reject(error as Error);
    }
  }

  #lost(worker: Worker, why: string): void {
    if (worker !== this.#worker) return;
    this.#worker = null;
    this.#why = why;
    for (const { reject } of this.#asked.values()) reject(this.#none(why));
    this.#asked.clear();
    if (!this.#closed) this.#again(why);
  }

  #again(why: string): void {
    this.#why = why;
    this.#isDead = true;
    const { part } = this.#options;
    part?.told({ part: part.name, state: "failed", detail: why, full: false });
    const seconds = this.#pauseMs / 1000;
    this.#options.report(`${this.#options.doing}: its thread has died and is started again in ${seconds} s: ${why}`);
    this.#restarting = setTimeout(() => this.start(), this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MOST_MS);
  }

  #none(why: string): NoThread {
    return new NoThread(this.#options.doing, why);
  }
}
