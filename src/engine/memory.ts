import sortedBtree from "sorted-btree";
import { type Cell, type CellKey, type Cells, compareKeys } from "../maps/cells.ts";
import type { SortedStore } from "./ports.ts";

/**
 * Cells in memory, without a file: for tests, and for tools that fold a log or read a damaged state (`verify/`,
 * `data/state_reader.ts`).
 */
export class MemoryCells implements Cells, SortedStore {
  readonly #cells = new sortedBtree.default<CellKey, Buffer>(undefined, compareKeys);
  seq = 0;

  get(key: CellKey): Buffer | undefined {
    return this.#cells.get(key);
  }

  put(key: CellKey, value: Buffer): void {
    this.#cells.set(key, value);
  }

  delete(key: CellKey): void {
    this.#cells.delete(key);
  }

  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const [key, value] of this.#cells.entries(from)) {
      if (key >= to) return;
      yield [key, value];
    }
  }

  *rangeDown(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const [key, value] of this.#cells.entriesReversed(to)) {
      if (key < from) return;
      if (key < to) yield [key, value];
    }
  }

  write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): Promise<void> {
    for (const [key, value] of changes)
      if (value === null) this.#cells.delete(key);
      else this.#cells.set(key, value);
    this.seq = seq;
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
