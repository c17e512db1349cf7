import sortedBtree from "sorted-btree";
import { type Cell, type CellKey, type Cells, compareKeys } from "../maps/cells.ts";
import type { StateStore } from "./ports.ts";

type Change = Buffer | null;
/** What a cell that has changed is now: to change it again costs no second look into a large Map. */
interface Pending {
  change: Change;
  /** About how many it takes: told without a look at what it is. */
  bytes: number;
}
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
  readonly #base: StateStore;
  #changes = new Map<CellKey, Pending>();
  #recent = new Map<CellKey, Pending>();
  /** The key among the changes that was asked for last, and what was found: most cells are asked for before they change. */
  #askedKey: CellKey = "";
  #asked: Pending | undefined;
  /** What is not in the store, in order: made when a range is first asked for, kept up from then on. */
  #sorted: Sorted | null = null;
  /** What each change since the oldest mark has replaced; undefined: nothing had changed. null: there is no mark. */
  #undo: [key: CellKey, before: Change | undefined][] | null = null;
  #bytes = 0;
  #writing: Promise<void> | null = null;

  constructor(base: StateStore) {
    this.#base = base;
  }

  /** Cells that have changed since the store was last written to, and about how many bytes they hold. */
  get size(): number {
    return this.#changes.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Until when the store is being written to; null: it is not. */
  get writing(): Promise<void> | null {
    return this.#writing;
  }

  get(key: CellKey): Buffer | undefined {
    const pending = this.#pending(key) ?? this.#recent.get(key);
    return pending === undefined ? this.#base.get(key) : (pending.change ?? undefined);
  }

  put(key: CellKey, value: Buffer): void {
    this.#change(key, owned(value));
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
      this.#bytes -= this.#pending(key)?.bytes ?? 0;
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
    this.#replace(new Map());
    this.#sorted = null;
    const bytes = this.#bytes;
    this.#bytes = 0;
    const done = (): void => {
      this.#writing = null;
      this.#sorted = null;
    };
    this.#writing = this.#base.write(inOrder(written), seq, bytes).then(done, (error) => {
      this.#replace(new Map([...written, ...this.#changes]));
      this.#bytes += bytes;
      this.#recent = new Map();
      done();
      failed(error);
    });
  }

  #change(key: CellKey, change: Change): void {
    const before = this.#pending(key);
    this.#undo?.push([key, before?.change]);
    this.#bytes -= before?.bytes ?? 0;
    if (change === null && this.#isBottom) this.#forget(key);
    else this.#set(key, change);
  }

  /** Nothing lies beneath the changes: a cell that goes leaves nothing to delete. */
  get #isBottom(): boolean {
    return this.#base.seq === 0 && this.#recent.size === 0;
  }

  #pending(key: CellKey): Pending | undefined {
    if (key !== this.#askedKey) {
      this.#asked = this.#changes.get(key);
      this.#askedKey = key;
    }
    return this.#asked;
  }

  #set(key: CellKey, change: Change): void {
    const bytes = key.length + (change?.length ?? 0);
    const pending = this.#pending(key);
    if (pending !== undefined) {
      pending.change = change;
      pending.bytes = bytes;
    } else {
      this.#asked = { change, bytes };
      this.#changes.set(key, this.#asked);
    }
    this.#bytes += bytes;
    this.#sorted?.set(key, change);
  }

  #replace(changes: Map<CellKey, Pending>): void {
    this.#changes = changes;
    this.#askedKey = "";
    this.#asked = undefined;
  }

  #forget(key: CellKey): void {
    this.#changes.delete(key);
    this.#askedKey = key;
    this.#asked = undefined;
    if (this.#sorted === null) return;
    const beneath = this.#writing === null ? undefined : this.#recent.get(key);
    if (beneath === undefined) this.#sorted.delete(key);
    else this.#sorted.set(key, beneath.change);
  }

  #order(): Sorted {
    if (this.#sorted === null) {
      const unwritten = this.#writing === null ? this.#changes : new Map([...this.#recent, ...this.#changes]);
      this.#sorted = new sortedBtree.default([...inOrder(unwritten)], compareKeys);
    }
    return this.#sorted;
  }
}

/** Strings of bytes sort in the order of their bytes by themselves, and faster than by a function of ours. */
function* inOrder(changes: Map<CellKey, Pending>): Iterable<[CellKey, Change]> {
  for (const key of [...changes.keys()].sort()) yield [key, (changes.get(key) as Pending).change];
}

/** A value that came with a batch is a view into all of it: what stays pending is the value, and what shares its pool. */
function owned(value: Buffer): Buffer {
  return value.buffer.byteLength > Math.max(value.length * 4, Buffer.poolSize) ? Buffer.from(value) : value;
}
