import type { Worker } from "node:worker_threads";

/** What a thread says: the question's id, and what the thread failed with, or what its answer is read from. */
interface Answering {
  readonly id: number;
  readonly error?: string;
}

interface Waiting {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
}

/** There is no thread to answer: it has not started, or has died and is started again in a moment. */
export class NoThread extends Error {
  constructor(doing: string, why: string) {
    super(`${doing}: ${why}`);
    this.name = "NoThread";
  }
}

export interface AskedThreadOptions<Answer extends Answering> {
  /** How its errors begin. */
  readonly doing: string;
  readonly start: () => Worker;
  /** An answer as the asker sees it, or throws. */
  readonly read: (answer: Answer) => unknown;
  /** Told when the thread has died. */
  readonly report: (message: string) => void;
  /** Before a thread that has died is started again for the first time; each time it dies without an answer, twice as long. */
  readonly pauseMs?: number;
}

const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 60_000;

/** A thread that answers questions by their ids. One that dies is started again: what it was asked has failed. */
export class AskedThread<Question extends object, Answer extends Answering> {
  readonly #options: AskedThreadOptions<Answer>;
  #worker: Worker | null = null;
  /** Why there is none. */
  #why = "its thread has not started";
  readonly #asked = new Map<number, Waiting>();
  #last = 0;
  #closed = false;
  #pauseMs: number;
  #restarting: NodeJS.Timeout | undefined;

  constructor(options: AskedThreadOptions<Answer>) {
    this.#options = options;
    this.#pauseMs = options.pauseMs ?? PAUSE_MS;
  }

  /** Again: nothing happens. */
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
    worker.on("message", (answer: Answer) => this.#receive(answer));
    worker.on("error", (error) => this.#lost(worker, error.message));
    worker.on("exit", () => this.#lost(worker, "its thread has stopped"));
  }

  ask<Result>(question: Question, transfer: ArrayBuffer[] = []): Promise<Result> {
    return new Promise((resolve, reject) => {
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
    try {
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
    const seconds = this.#pauseMs / 1000;
    this.#options.report(`${this.#options.doing}: its thread has died and is started again in ${seconds} s: ${why}`);
    this.#restarting = setTimeout(() => this.start(), this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MOST_MS);
  }

  #none(why: string): NoThread {
    return new NoThread(this.#options.doing, why);
  }
}
