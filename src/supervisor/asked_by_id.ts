import type { Worker } from "node:worker_threads";
import { NoThread } from "./asked_thread.ts";
import { PartFailed, type PartFault, type PartName } from "./derived_parts.ts";

/** What a thread says: the question's id, and what the thread failed with, or what its answer is read from. */
interface Answering {
  readonly id: number;
  readonly error?: string;
  /** It has failed because a part has. */
  readonly fault?: PartFault;
}

/** What a thread that keeps a part says of it beside its answers. */
export type OfPart =
  | { readonly kind: "part"; readonly fault: PartFault | null }
  | { readonly kind: "part report"; readonly message: string };

interface Waiting {
  readonly resolve: (answer: never) => void;
  readonly reject: (error: Error) => void;
}

interface AskedByIdOptions<Answer extends Answering> {
  /** How its errors begin. */
  readonly doing: string;
  readonly start: () => Worker;
  /** An answer as the asker sees it, or throws. */
  readonly read: (answer: Answer) => unknown;
  /** Told when the thread has died. */
  readonly report: (message: string) => void;
  /** The part that the thread keeps, and who is told how it stands with it. */
  readonly part?: { readonly name: PartName; readonly told: (fault: PartFault | null) => void };
  /** It is started when it is first asked. */
  readonly onDemand?: true;
  /** Before a thread that has died is started again for the first time; each time it dies without an answer, twice as long. */
  readonly pauseMs?: number;
}

const PAUSE_MS = 1000;
const PAUSE_MOST_MS = 60_000;

/** A thread that answers questions by their ids. One that dies is started again: what it was asked has failed. */
export class AskedById<Question extends object, Answer extends Answering> {
  readonly #options: AskedByIdOptions<Answer>;
  #worker: Worker | null = null;
  /** Why there is none. */
  #why = "its thread has not started";
  readonly #asked = new Map<number, Waiting>();
  #last = 0;
  #closed = false;
  /** It has died, and has not answered since. */
  #isDead = false;
  #pauseMs: number;
  #restarting: NodeJS.Timeout | undefined;

  constructor(options: AskedByIdOptions<Answer>) {
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
