/**
 * Cells that were changed and are not in LMDB yet. Commands change cells in memory, because LMDB's cost is per
 * transaction and per page touched; the state writer writes them when there are 65,536, or when the engine rests. Reads
 * see a pending cell over the stored one. A process that dies loses nothing: the log has the events, and recovery does
 * those after LMDB's seq again.
 *
 * While LMDB fails, cells stay pending, up to three transactions. A command that could add more is refused then.
 */

import sortedBtree from "sorted-btree";
import { type Cell, type CellKey, type Cells, compareKeys } from "../maps/cells.ts";
import { CellTable } from "./cell_table.ts";
import { overlaid } from "./overlaid.ts";
import type { StateStore } from "./ports.ts";
import { type Change, SortedCells } from "./sorted_cells.ts";

/** From so many changes on it costs more to put them in order anew than to keep them so. */
const MANY_CHANGES = 4096;

/** What lies beneath. */
type CellStore = Pick<StateStore<CellTable>, "get" | "range" | "seq" | "write">;
/** So many cells that are gone are worth a note; and so many walks have one. */
const MANY_GONE = 32;
const WALKS_MAX = 16;

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
  /** The changes in order: built by the first range read, dropped at a write if no range was read since the write before it. */
  #sorted: Sorted | null = null;
  /** Whether a range of many has been asked for since the store was last written to. */
  #isWalked = false;
  /** What is being written, in order. */
  #recentSorted: SortedCells | null = null;
  /** What each change since the oldest mark has replaced; undefined: nothing had changed. null: there is no mark. */
  #undo: [key: CellKey, before: Change | undefined][] | null = null;
  #writing: Promise<void> | null = null;
  /** A write has failed: whoever was to write may have done it all the same, and died before he said so. */
  #mayBeStored = false;
  /** Of walks that came past many cells that are gone, by where they began: nothing is there before this key. */
  readonly #emptyUpTo = new Map<CellKey, CellKey>();
  /** Told of each key before its cell changes. */
  readonly #onChange = new Set<(key: CellKey) => void>();

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

  /** In order. A walk that comes past many cells that are gone leaves word of it for the next that begins there. */
  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    if (this.#changes.size === 0 && this.#writing === null) return yield* this.#base.range(from, to);
    const start = this.#emptyUpTo.get(from) ?? from;
    let gone = 0;
    let isFirst = true;
    const isGone = (): void => {
      gone++;
    };
    let beneath = this.#base.range(start, to);
    if (this.#recentSorted !== null) beneath = overlaid(this.#recentSorted.entries(start), beneath, to, isGone);
    for (const cell of overlaid(this.#order().entries(start), beneath, to, isGone)) {
      if (isFirst) this.#noteEmpty(from, cell[0], gone);
      isFirst = false;
      yield cell;
    }
    if (isFirst) this.#noteEmpty(from, to, gone);
  }

  #noteEmpty(from: CellKey, first: CellKey, gone: number): void {
    if (gone < MANY_GONE) return;
    if (this.#emptyUpTo.size === WALKS_MAX) this.#emptyUpTo.clear();
    this.#emptyUpTo.set(from, first);
  }

  /** A cell is there, or may be. */
  #isThere(key: CellKey): void {
    for (const [from, first] of this.#emptyUpTo) if (key >= from && key < first) this.#emptyUpTo.set(from, key);
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
      this.#isThere(key);
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
   * store fails it is pending again, all of it, beneath what has changed since: nobody can say whether it was written. Resolves when it
   * is over.
   */
  write(seq: number, failed: (error: unknown) => void): Promise<void> {
    const written = this.#changes;
    this.#recent = written;
    this.#recentSorted = new SortedCells(written.memory);
    this.#changes = new CellTable();
    this.#sorted = this.#isWalked ? newSorted() : null;
    this.#isWalked = false;
    const done = (): void => {
      this.#writing = null;
      this.#recentSorted = null;
    };
    this.#writing = this.#base.write(written, seq, written.bytes).then(done, (error) => {
      for (const [key, change] of this.#changes) written.set(key, change);
      this.#changes = written;
      this.#recent = new CellTable();
      this.#sorted = null;
      this.#mayBeStored = true;
      done();
      failed(error);
    });
    return this.#writing;
  }

  /** Calls `before` with each key whose cell is about to change, until the function that is answered is called. */
  onChange(before: (key: CellKey) => void): () => void {
    this.#onChange.add(before);
    return () => this.#onChange.delete(before);
  }

  #change(key: CellKey, change: Change): void {
    if (this.#onChange.size > 0) for (const before of this.#onChange) before(key);
    this.#undo?.push([key, this.#changes.get(key)]);
    if (change === null && this.#isBottom) this.#forget(key);
    else this.#set(key, change);
  }

  /** Nothing lies beneath the changes: a cell that goes leaves nothing to delete. */
  get #isBottom(): boolean {
    return this.#base.seq === 0 && this.#recent.size === 0 && !this.#mayBeStored;
  }

  #set(key: CellKey, change: Change): void {
    if (change !== null) this.#isThere(key);
    this.#changes.set(key, change);
    this.#sorted?.set(key, this.#changes.get(key) as Change);
  }

  #forget(key: CellKey): void {
    this.#changes.delete(key);
    this.#sorted?.delete(key);
  }

  #order(): Sorted {
    if (this.#changes.size >= MANY_CHANGES) this.#isWalked = true;
    this.#sorted ??= newSorted(this.#changes);
    return this.#sorted;
  }
}

function newSorted(changes: Iterable<readonly [CellKey, Change]> = []): Sorted {
  return new sortedBtree.default([...changes] as [CellKey, Change][], compareKeys);
}
