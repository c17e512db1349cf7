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

/**
 * A thread that answers questions by their ids. It is started once what it reads is there: until then the engine has
 * the cores for itself, to load its modules and to recover.
 */
export class AskedThread<Question extends object, Answer extends Answering> {
  readonly #doing: string;
  readonly #start: () => Worker;
  readonly #read: (answer: Answer) => unknown;
  #worker: Worker | null = null;
  /** Why there is none. */
  #why = "its thread has not started";
  readonly #asked = new Map<number, Waiting>();
  #last = 0;

  /** `doing`: how its errors begin; `read`: an answer as the asker sees it, or throws. */
  constructor(doing: string, start: () => Worker, read: (answer: Answer) => unknown) {
    this.#doing = doing;
    this.#start = start;
    this.#read = read;
  }

  /** Again: nothing happens. */
  start(): void {
    if (this.#worker !== null) return;
    this.#worker = this.#start();
    this.#worker.on("message", (answer: Answer) => this.#receive(answer));
    this.#worker.on("error", (error) => this.#lost(error.message));
    this.#worker.on("exit", () => {
      if (this.#worker !== null) this.#lost("its thread has stopped");
    });
  }

  ask<Result>(question: Question, transfer: ArrayBuffer[] = []): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (this.#worker === null) throw this.#error(this.#why);
      const id = ++this.#last;
      this.#asked.set(id, { resolve, reject });
      this.#worker.postMessage({ ...question, id }, transfer);
    });
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#worker === null) return resolve();
      this.#worker.once("exit", () => resolve());
      this.#worker.postMessage({ kind: "close" });
    });
  }

  #receive(answer: Answer): void {
    const asked = this.#asked.get(answer.id);
    this.#asked.delete(answer.id);
    try {
      if (answer.error !== undefined) throw this.#error(answer.error);
      asked?.resolve(this.#read(answer) as never);
    } catch (error) {
      asked?.reject(error as Error);
    }
  }

  #lost(why: string): void {
    this.#worker = null;
    this.#why = why;
    for (const { reject } of this.#asked.values()) reject(this.#error(why));
    this.#asked.clear();
  }

  #error(why: string): Error {
    return new Error(`${this.#doing}: ${why}`);
  }
}
