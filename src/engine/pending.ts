import sortedBtree from "sorted-btree";
import { type Cell, type CellKey, type Cells, compareKeys } from "../maps/cells.ts";
import { CellTable, type Change } from "./cell_table.ts";
import type { StateStore } from "./ports.ts";

/** What lies beneath. */
type CellStore = Pick<StateStore, "get" | "range" | "seq" | "write">;
type Sorted = InstanceType<typeof sortedBtree.default<CellKey, Change>>;

/**
 * Changed cells over a store that does not have them yet. Reads see, in this order:
 *
 *     changes    since the store was last written to; a mark is a point to go back to: that of a batch until its events
 *                are durable, that of a command until it has been decided
 *     recent     what is being written to the store, or was written last: a cache by then
 *     base       the store
 */
export class PendingCells implements Cells {
  readonly #base: CellStore;
  #changes = new CellTable();
  #recent = new CellTable();
  /** What is not in the store, in order: made when a range is first asked for, kept up from then on. */
  #sorted: Sorted | null = null;
  /** What each change since the oldest mark has replaced; undefined: nothing had changed. null: there is no mark. */
  #undo: [key: CellKey, before: Change | undefined][] | null = null;
  #writing: Promise<void> | null = null;

  constructor(base: CellStore) {
    this.#base = base;
  }

  /** Cells that have changed since the store was last written to, and how many bytes they hold. */
  get size(): number {
    return this.#changes.size;
  }

  get bytes(): number {
    return this.#changes.bytes;
  }

  /** Until when the store is being written to; null: it is not. */
  get writing(): Promise<void> | null {
    return this.#writing;
  }

  get(key: CellKey): Buffer | undefined {
    const change = this.#changes.get(key);
    const known = change === undefined ? this.#recent.get(key) : change;
    return known === undefined ? this.#base.get(key) : (known ?? undefined);
  }

  put(key: CellKey, value: Buffer): void {
    this.#change(key, value);
  }

  delete(key: CellKey): void {
    this.#change(key, null);
  }

  /** What is not in the store beside what is, in order: of two cells with one key the former counts. */
  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    if (this.#changes.size === 0 && this.#writing === null) return yield* this.#base.range(from, to);
    const changes = this.#order().entries(from);
    let next = changes.next();
    for (const cell of this.#base.range(from, to)) {
      for (; !next.done && next.value[0] < cell[0]; next = changes.next())
        if (next.value[1] !== null) yield next.value as Cell;
      if (next.done || next.value[0] !== cell[0]) {
        yield cell;
        continue;
      }
      if (next.value[1] !== null) yield next.value as Cell;
      next = changes.next();
    }
    for (; !next.done && next.value[0] < to; next = changes.next())
      if (next.value[1] !== null) yield next.value as Cell;
  }

  /** From the first mark on, until it is settled, what changes can be taken back. */
  mark(): number {
    this.#undo ??= [];
    return this.#undo.length;
  }

  rollback(mark: number): void {
    const undo = this.#undo ?? [];
    while (undo.length > mark) {
      const [key, before] = undo.pop() as [CellKey, Change | undefined];
      if (before !== undefined) this.#set(key, before);
      else this.#forget(key);
    }
  }

  /** There is no going back behind this point. */
  settle(): void {
    this.#undo = null;
  }

  /**
   * Begins to write what has changed, up to an event's seq. It must be settled, and not being written already. Where the
   * store fails, nothing of it was written: it is pending again, beneath what has changed since.
   */
  write(seq: number, failed: (error: unknown) => void): void {
    const written = this.#changes;
    this.#recent = written;
    this.#changes = new CellTable();
    this.#sorted = null;
    const done = (): void => {
      this.#writing = null;
      this.#sorted = null;
    };
    this.#writing = this.#base.write(written.inOrder(), seq, written.bytes).then(done, (error) => {
      for (const [key, change] of this.#changes) written.set(key, change);
      this.#changes = written;
      this.#recent = new CellTable();
      done();
      failed(error);
    });
  }

  #change(key: CellKey, change: Change): void {
    this.#undo?.push([key, this.#changes.get(key)]);
    if (change === null && this.#isBottom) this.#forget(key);
    else this.#set(key, change);
  }

  /** Nothing lies beneath the changes: a cell that goes leaves nothing to delete. */
  get #isBottom(): boolean {
    return this.#base.seq === 0 && this.#recent.size === 0;
  }

  #set(key: CellKey, change: Change): void {
    this.#changes.set(key, change);
    this.#sorted?.set(key, this.#changes.get(key) as Change);
  }

  #forget(key: CellKey): void {
    this.#changes.delete(key);
    if (this.#sorted === null) return;
    const beneath = this.#writing === null ? undefined : this.#recent.get(key);
    if (beneath === undefined) this.#sorted.delete(key);
    else this.#sorted.set(key, beneath);
  }

  #order(): Sorted {
    this.#sorted ??= new sortedBtree.default([...this.#unwritten().inOrder()], compareKeys);
    return this.#sorted;
  }

  #unwritten(): CellTable {
    if (this.#writing === null) return this.#changes;
    const all = new CellTable();
    for (const table of [this.#recent, this.#changes]) for (const [key, change] of table) all.set(key, change);
    return all;
  }
}
