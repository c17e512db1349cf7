/**
 * Cells that were changed and are not in LMDB yet. Commands change cells in memory, because LMDB's cost is per
 * transaction and per page touched; the state writer writes many at once (`state_writes.ts`). A process that dies loses
 * nothing: recovery redoes the events after LMDB's seq. There are four layers, and a read takes the first that has the
 * key:
 *
 *     changes    the changes since the last write began; null: the cell is deleted
 *     recent     the changes that are being written, or were written last and are a cache
 *     older      the changes that were written before those: a cache
 *     base       the store
 *
 * For example, while the store has a=1 and b=1:
 *
 *                           changes        recent         base        get(a)  get(b)
 *     put(a, 2), delete(b)  a=2 b=null                    a=1 b=1     2       undefined
 *     write(9) begins                      a=2 b=null     a=1 b=1     2       undefined
 *     put(a, 3)             a=3            a=2 b=null     a=1 b=1     3       undefined
 *     the write succeeds    a=3            a=2 b=null     a=2         3       undefined
 *     or it fails           a=3 b=null                    a=1 b=1     3       undefined
 *
 * If the machine does not let the store be read, reads throw PartFailed: what needs the cell is answered with that, and
 * nothing is taken for absent.
 *
 * A command that throws, and a batch that the log refuses, are undone by rollback(), back to a mark. Only changes of
 * durable batches are written.
 */

import type { Cell, CellKey, Cells } from "../maps/cells.ts";
import { faultIn, PartFailed } from "../supervisor/derived_parts.ts";
import { CellTable } from "./cell_table.ts";
import { KeyOrder } from "./key_order.ts";
import { overlaid } from "./overlaid.ts";
import type { StateStore } from "./ports.ts";
import type { Change } from "./sorted_cells.ts";
import { StoredElements } from "./stored_elements.ts";

/** If `recent` has more bytes than this when the next write begins, it is dropped instead of becoming `older`. */
const OLDER_BYTES_MAX = 16 * 1024 * 1024;

/** The parts of the store that are used. */
type CellStore = Pick<StateStore<CellTable>, "get" | "range" | "seq" | "write">;
/** If a range passes this many deleted cells before its first cell, their end is noted; at most WALKS_MAX ends are. */
const MANY_GONE = 32;
const WALKS_MAX = 16;

/** Changed cells over a store that does not have them yet. */
export class PendingCells implements Cells {
  readonly #base: CellStore;
  #changes = new CellTable();
  #recent = new CellTable();
  #older = new CellTable();
  readonly #stored: StoredElements;
  #order = new KeyOrder(this.#changes);
  /** The order of the changes that are being written; null: nothing is being written. */
  #recentOrder: KeyOrder | null = null;
  /**
   * What each change since the first mark has replaced in #changes, in order; undefined: nothing. null: there is no
   * mark.
   */
  #undo: [key: CellKey, before: Change | undefined][] | null = null;
  #writing: Promise<void> | null = null;
  /**
   * A write has failed. Its writer may have committed it and died before it could say so: the store may have cells
   * although its seq is 0.
   */
  #mayBeStored = false;
  /**
   * By the start of a range that passed many deleted cells: the key before which it found no cell. The next range from
   * there begins at that key.
   */
  readonly #emptyUpTo = new Map<CellKey, CellKey>();
  /** Called with each key before its cell changes. Rollbacks do not call it. */
  readonly #onChange = new Set<(key: CellKey) => void>();

  constructor(base: CellStore) {
    this.#base = base;
    this.#stored = new StoredElements(base.seq === 0);
  }

  /** Call after a recovery. No map has an id above `lastMap` yet: only this process stores elements of later maps. */
  recovered(lastMap: number): void {
    this.#stored.beginsAfter(lastMap);
  }

  /** The number of changes since the last write began. */
  get size(): number {
    return this.#changes.size;
  }

  /** The bytes of their keys and values. */
  get bytes(): number {
    return this.#changes.bytes;
  }

  /** Resolves when the present write is over; null: nothing is being written. */
  get writing(): Promise<void> | null {
    return this.#writing;
  }

  get(key: CellKey): Buffer | undefined {
    let known = this.#changes.get(key);
    if (known === undefined) known = this.#recent.get(key);
    if (known === undefined) known = this.#older.get(key);
    if (known !== undefined) return known ?? undefined;
    if (!this.#stored.mayHave(key, this.#changes.hashOf(key))) return undefined;
    try {
      return this.#base.get(key);
    } catch (error) {
      throw unread(error);
    }
  }

  put(key: CellKey, value: Buffer): void {
    this.#change(key, value);
  }

  delete(key: CellKey): void {
    this.#change(key, null);
  }

  /**
   * Cells from `from` up to `to` (excluded), ascending. If a range passes many deleted cells before its first cell, the
   * next range from `from` skips them.
   */
  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    try {
      if (this.#changes.size === 0 && this.#writing === null) return yield* this.#base.range(from, to);
      const start = this.#emptyUpTo.get(from) ?? from;
      let gone = 0;
      let isFirst = true;
      const isGone = (): void => {
        gone++;
      };
      let beneath = this.#base.range(start, to);
      if (this.#recentOrder !== null) beneath = overlaid(this.#recentOrder.changes(start), beneath, to, isGone);
      for (const cell of overlaid(this.#order.changes(start), beneath, to, isGone)) {
        if (isFirst) this.#noteEmpty(from, cell[0], gone);
        isFirst = false;
        yield cell;
      }
      if (isFirst) this.#noteEmpty(from, to, gone);
    } catch (error) {
      throw unread(error);
    }
  }

  #noteEmpty(from: CellKey, first: CellKey, gone: number): void {
    if (gone < MANY_GONE) return;
    if (this.#emptyUpTo.size === WALKS_MAX) this.#emptyUpTo.clear();
    this.#emptyUpTo.set(from, first);
  }

  /** Notes that a cell may exist at `key`, so that no range skips it. */
  #isThere(key: CellKey): void {
    for (const [from, first] of this.#emptyUpTo) if (key >= from && key < first) this.#emptyUpTo.set(from, key);
  }

  /** Returns a point for rollback(). Changes can be undone from the first mark on, until settle(). */
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

  /** Forgets all marks: no change so far can be undone. */
  settle(): void {
    this.#undo = null;
  }

  /**
   * Begins to write all changes, and `seq` as the store's last event. Call only if no change can be rolled back any
   * more, and while nothing is being written. If the store fails, all of them are changes again, overridden by later
   * ones: nobody can say whether they were written. Resolves when the write is over, whether or not it failed.
   */
  write(seq: number, failed: (error: unknown) => void): Promise<void> {
    const written = this.#changes;
    this.#stored.add(written.memory);
    this.#older = this.#recent.bytes > OLDER_BYTES_MAX ? new CellTable() : this.#recent;
    this.#recent = written;
    this.#recentOrder = this.#order;
    this.#changes = new CellTable();
    this.#order = new KeyOrder(this.#changes, this.#order.isWalked);
    const done = (): void => {
      this.#writing = null;
      this.#recentOrder = null;
    };
    this.#writing = this.#base.write(written, seq, written.bytes).then(done, (error) => {
      for (const [key, change] of this.#changes) written.set(key, change);
      this.#changes = written;
      this.#order = new KeyOrder(written);
      this.#recent = new CellTable();
      this.#mayBeStored = true;
      done();
      failed(error);
    });
    return this.#writing;
  }

  /** Calls `before` with each key before its cell changes. Returns a function that ends this. */
  onChange(before: (key: CellKey) => void): () => void {
    this.#onChange.add(before);
    return () => this.#onChange.delete(before);
  }

  #change(key: CellKey, change: Change): void {
    if (this.#onChange.size > 0) for (const before of this.#onChange) before(key);
    this.#undo?.push([key, this.#changes.get(key)]);
    if (change === null && this.#isBottom && !this.#order.isSettled(this.#changes.entryOf(key))) this.#forget(key);
    else this.#set(key, change);
  }

  /** Whether no layer beneath #changes can have a cell. A deleted cell then needs no null. */
  get #isBottom(): boolean {
    return this.#base.seq === 0 && this.#recent.size === 0 && !this.#mayBeStored;
  }

  #set(key: CellKey, change: Change): void {
    if (change !== null) this.#isThere(key);
    const { size } = this.#changes;
    this.#changes.set(key, change);
    if (this.#changes.size > size) this.#order.added(key);
  }

  #forget(key: CellKey): void {
    const entry = this.#changes.entryOf(key);
    if (entry < 0) return;
    this.#order.removing(entry);
    this.#changes.delete(key);
  }
}

/** The error of a read that the machine does not allow at present. Other errors stay unchanged. */
function unread(error: unknown): unknown {
  const found = faultIn(error);
  if (found !== "failed" && found !== "full") return error;
  const { message } = error as Error;
  return new PartFailed({ part: "state", state: "failed", detail: message, full: found === "full" });
}
