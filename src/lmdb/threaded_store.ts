/**
 * The state's store with its writes in another thread (`threads/state_writer.ts`). Sorting 65,536 cells and handing
 * them to LMDB takes 0.1 s, in which the engine's thread could answer nobody. Both threads share the memory of the
 * cells (`engine/cell_table.ts`), which does not change until the write is over.
 */

import type { Worker } from "node:worker_threads";
import type { CellTable } from "../engine/cell_table.ts";
import type { StateStore } from "../engine/ports.ts";
import { SortedCells } from "../engine/sorted_cells.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { LmdbStore, StoreWriter } from "./store.ts";
import { STATE_WRITER, type WriterProtocol, type WrittenCells } from "./writer_protocol.ts";

/** Carries out a write in the writer's thread. */
export function writeCells(writer: StoreWriter, { cells, seq, bytes }: WrittenCells): void {
  writer.write(new SortedCells(cells).entries(), seq, bytes);
}

/** A store that this thread reads and another thread writes to. */
export class ThreadedStore implements StateStore<CellTable> {
  readonly #store: LmdbStore;
  readonly #start: () => Worker;
  readonly #report: (message: string) => void;
  /** null after a write has failed; the next write starts another thread. */
  #thread: AskedThread<WriterProtocol> | null;

  constructor(store: LmdbStore, start: () => Worker, report: (message: string) => void) {
    this.#store = store;
    this.#start = start;
    this.#report = report;
    this.#thread = this.#started();
  }

  #started(): AskedThread<WriterProtocol> {
    const thread = new AskedThread(STATE_WRITER, {
      start: this.#start,
      report: this.#report,
      listeners: {},
      answers: {},
    });
    thread.start();
    return thread;
  }

  get seq(): number {
    return this.#store.seq;
  }

  get(key: CellKey): Buffer | undefined {
    return this.#store.get(key);
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#store.range(from, to);
  }

  rangeDown(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#store.rangeDown(from, to);
  }

  async write({ memory }: CellTable, seq: number, bytes: number): Promise<void> {
    this.#store.mayWrite();
    this.#thread ??= this.#started();
    try {
      await this.#thread.ask("write", { cells: memory, seq, bytes });
    } catch (error) {
      await this.#startOver();
      throw error;
    }
    this.#store.wrote(seq);
  }

  /**
   * Closes the thread and opens LMDB anew. After a meta page could not be written (MDB_PANIC), LMDB refuses all work in
   * every thread of the process.
   */
  async #startOver(): Promise<void> {
    const thread = this.#thread;
    this.#thread = null;
    await thread?.close();
    await this.#store.reopen();
  }

  async close(): Promise<void> {
    await this.#thread?.close();
    await this.#store.close();
  }
}
