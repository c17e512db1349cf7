import sortedBtree from "sorted-btree";
import type { Cell, CellKey, Cells } from "../maps/cells.ts";
import { compareKeys } from "./memory.ts";

type Change = Buffer | null;

/**
 * Changed cells over a store that does not have them yet: reads see them, the store is written in transactions of a
 * size that suits it. A mark is a point to go back to: that of a batch until its events are durable, that of a command
 * until it has been decided.
 */
export class PendingCells implements Cells {
  readonly #base: Cells;
  readonly #changes = new sortedBtree.default<CellKey, Change>(undefined, compareKeys);
  /** What each change since the oldest mark has replaced; undefined: nothing was pending. */
  #undo: [key: CellKey, before: Change | undefined][] = [];

  constructor(base: Cells) {
    this.#base = base;
  }

  get size(): number {
    return this.#changes.size;
  }

  get(key: CellKey): Buffer | undefined {
    const change = this.#changes.get(key);
    return change === undefined ? this.#base.get(key) : (change ?? undefined);
  }

  put(key: CellKey, value: Buffer): void {
    this.#change(key, value);
  }

  delete(key: CellKey): void {
    this.#change(key, null);
  }

  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    const changes = this.#changes.entries(from);
    let change = changes.next();
    for (const cell of this.#base.range(from, to)) {
      while (!change.done && change.value[0] < cell[0]) {
        const [key, value] = change.value;
        if (value !== null) yield [key, value];
        change = changes.next();
      }
      if (!change.done && change.value[0] === cell[0]) {
        const [key, value] = change.value;
        if (value !== null) yield [key, value];
        change = changes.next();
      } else {
        yield cell;
      }
    }
    for (; !change.done && change.value[0] < to; change = changes.next()) {
      const [key, value] = change.value;
      if (value !== null) yield [key, value];
    }
  }

  mark(): number {
    return this.#undo.length;
  }

  rollback(mark: number): void {
    while (this.#undo.length > mark) {
      const [key, before] = this.#undo.pop() as [CellKey, Change | undefined];
      if (before === undefined) this.#changes.delete(key);
      else this.#changes.set(key, before);
    }
  }

  /** There is no going back behind this point. */
  settle(): void {
    this.#undo = [];
  }

  /** All changes in key order; null deletes. */
  changes(): Iterable<readonly [CellKey, Change]> {
    return this.#changes.entries();
  }

  /** The base has the changes now. */
  written(): void {
    this.#changes.clear();
    this.#undo = [];
  }

  #change(key: CellKey, value: Change): void {
    this.#undo.push([key, this.#changes.get(key)]);
    this.#changes.set(key, value);
  }
}

