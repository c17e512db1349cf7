/** The state as the engine's thread has it: read here (`layers.ts`), written by another thread (`writer.ts`). */

import type { Worker } from "node:worker_threads";
import type { CellTable } from "../engine/cell_table.ts";
import type { StateStore } from "../engine/ports.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { LayeredState } from "./layers.ts";
import { STATE_WRITER, type WriterProtocol } from "./protocol.ts";

type WriterThread = AskedThread<WriterProtocol>;

/** A state that this thread reads and another thread writes to. */
export class ThreadedStore implements StateStore<CellTable> {
  readonly #layers: LayeredState;
  readonly #start: () => Worker;
  readonly #report: (message: string) => void;
  /** null at first, and after a failure; the next write starts a thread. */
  #thread: WriterThread | null = null;
  /** Resolves when LMDB was opened anew after a fold that failed. */
  #reopening: Promise<void> = Promise.resolve();

  constructor(layers: LayeredState, start: () => Worker, report: (message: string) => void) {
    this.#layers = layers;
    this.#start = start;
    this.#report = report;
    // The thread folds runs, whether or not there is anything to write.
    if (layers.hasRuns) this.#startThread();
  }

  #startThread(): WriterThread {
    // A thread that has died may have written more than it could say.
    this.#layers.look();
    const thread = new AskedThread(STATE_WRITER, {
      start: this.#start,
      report: this.#report,
      listeners: {
        folded: ({ seq }) => {
          this.#layers.look();
          thread.say("released", { seq });
        },
        foldFailed: ({ message }) => {
          this.#report(`folding runs into the state: ${message}; the runs stay, and the fold is tried again`);
          if (this.#thread === thread) this.#reopening = this.#another().catch((error) => this.#report(error.message));
        },
      },
      answers: {},
    });
    thread.start();
    this.#thread = thread;
    return thread;
  }

  get seq(): number {
    return this.#layers.seq;
  }

  get(key: CellKey): Buffer | undefined {
    return this.#layers.get(key);
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#layers.range(from, to);
  }

  async write({ memory }: CellTable, seq: number, bytes: number): Promise<void> {
    await this.#reopening;
    this.#layers.mayWrite();
    const thread = this.#thread ?? this.#startThread();
    try {
      const hasRuns = await thread.ask("write", { cells: memory, seq, bytes });
      // Runs that were folded meanwhile are known here until a look has succeeded.
      if (hasRuns || this.#layers.hasRuns) this.#layers.look();
      else this.#layers.lookBeneath();
    } catch (error) {
      if (this.#thread === thread) await this.#startOver();
      throw error;
    }
  }

  /**
   * Closes the thread and opens LMDB anew. After a meta page could not be written (MDB_PANIC), LMDB refuses all work in
   * every thread of the process. A thread that never served has written nothing: LMDB stays open then, because what kept
   * the thread from starting, such as a want of descriptors, might keep LMDB from being opened.
   */
  async #startOver(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await thread?.close();
    if (thread?.hasServed !== false) await this.#layers.reopen();
  }

  async #another(): Promise<void> {
    await this.#startOver();
    this.#startThread();
  }

  async close(): Promise<void> {
    await this.#reopening;
    const isSynced = await this.#thread?.ask("sync", {}).then(
      () => true,
      () => false,
    );
    await this.#thread?.close();
    await this.#layers.close(isSynced === true);
  }
}
