/**
 * The state's store with its writes in another thread (`threads/state_writer.ts`). Sorting 65,536 cells and handing
 * them to LMDB takes 0.1 s, in which the engine's thread could answer nobody. Both threads share the memory of the
 * cells (`engine/cell_table.ts`), which does not change until the write is over.
 */

import type { Worker } from "node:worker_threads";
import type { CellTable } from "../engine/cell_table.ts";
import type { StateStore } from "../engine/ports.ts";
import { type CellMemory, SortedCells } from "../engine/sorted_cells.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { AskedById } from "../supervisor/asked_by_id.ts";
import type { LmdbStore, StoreWriter } from "./store.ts";

interface Written {
  readonly cells: CellMemory;
  readonly seq: number;
  readonly bytes: number;
}

/** Messages to the writer's thread, and its replies. */
export type ToWriter = (Written & { readonly id: number }) | { readonly kind: "close" };
export interface FromWriter {
  readonly id: number;
  /** The reason why nothing was written; absent if it was. `code` is the error's, for faultIn. */
  readonly failure?: string;
  readonly code?: string;
}

/** Carries out a write in the writer's thread. */
export function writeCells(writer: StoreWriter, { cells, seq, bytes }: Written): void {
  writer.write(new SortedCells(cells).entries(), seq, bytes);
}

/** A store that this thread reads and another thread writes to. */
export class ThreadedStore implements StateStore<CellTable> {
  readonly #store: LmdbStore;
  readonly #start: () => Worker;
  readonly #report: (message: string) => void;
  /** null: a write has failed, and the next one has another. */
  #thread: AskedById<Written, FromWriter> | null;

  constructor(store: LmdbStore, start: () => Worker, report: (message: string) => void) {
    this.#store = store;
    this.#start = start;
    this.#report = report;
    this.#thread = this.#started();
  }

  #started(): AskedById<Written, FromWriter> {
    const read = ({ failure, code }: FromWriter): void => {
      if (failure !== undefined) throw Object.assign(new Error(failure), { code });
    };
    const thread = new AskedById<Written, FromWriter>({
      doing: "writing to the state",
      start: this.#start,
      read,
      report: this.#report,
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
      await this.#thread.ask({ cells: memory, seq, bytes });
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
