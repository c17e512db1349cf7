/**
 * The order of a cell table's keys while the table grows. To sort all of its entries for a range costs 0.1 s for 100,000
 * of them, and to keep them all in a tree costs 1 to 2 us a change. So most entries are in sorted runs, of which two are
 * merged when they are of the same size, and only the newest entries are in a tree:
 *
 *     entries    0 1 2 3 4 5 6 7    8 9 10 11    12 13
 *     runs       [3 1 7 0 6 2 5 4]  [9 8 11 10]
 *     tree                                       {13, 12}
 *
 * Nothing is sorted before the first range is read. An entry that changes its value keeps its place.
 */

import sortedBtree from "sorted-btree";
import { afterKey, type CellKey, compareKeys } from "../maps/cells.ts";
import {
  type CellMemory,
  type Change,
  changeOf,
  compareEntries,
  firstEntryFrom,
  keyOf,
  ordered,
} from "./sorted_cells.ts";

/** Entries in the tree, at most. */
const TREE_ENTRIES = 4096;

type Tree = InstanceType<typeof sortedBtree.default<CellKey, number>>;

/** A table: its memory at present. */
interface Table {
  readonly memory: CellMemory;
}

export class KeyOrder {
  readonly #table: Table;
  /** Of entries in the order of their keys; each run is at least twice as large as the next. */
  #runs: Uint32Array[] = [];
  /** The number of entries in the runs: the first ones. */
  #inRuns = 0;
  /** The other entries, by key; null: no range was read. */
  #tree: Tree | null;
  /** Grows when entries move, so that walks look for their places again. */
  #moves = 0;
  /** How often a key was added to the tree, which moves others in it. */
  #added = 0;
  #isWalked = false;

  /** `isWalked`: ranges will be read, so the order is kept from the beginning on. The table must be empty then. */
  constructor(table: Table, isWalked = false) {
    this.#table = table;
    this.#tree = isWalked ? newTree() : null;
  }

  /** Whether a range was read. */
  get isWalked(): boolean {
    return this.#isWalked;
  }

  /** Whether many entries would have to be sorted again if this one were removed. */
  isSettled(entry: number): boolean {
    return entry >= 0 && entry < this.#inRuns;
  }

  /** The table has a new entry, its last, with this key. */
  added(key: CellKey): void {
    if (this.#tree === null) return;
    this.#tree.set(key, this.#table.memory.size - 1);
    this.#added++;
    if (this.#tree.size >= TREE_ENTRIES) this.#endTree(this.#tree);
  }

  /** The table is about to remove this entry; the last one will take its place. */
  removing(entry: number): void {
    this.#moves++;
    const { memory } = this.#table;
    const last = memory.size - 1;
    if (this.#tree !== null && entry >= this.#inRuns) {
      this.#tree.delete(keyOf(memory, entry));
      if (entry < last) this.#tree.set(keyOf(memory, last), entry);
      return;
    }
    while (this.#inRuns > entry) this.#inRuns -= (this.#runs.pop() as Uint32Array).length;
    this.#tree = null;
  }

  /** The changes, ascending from `from` (included) on. */
  *changes(from: CellKey): Generator<readonly [key: CellKey, change: Change], undefined> {
    this.#isWalked = true;
    for (let start: CellKey | null = from; start !== null; ) {
      this.#sort();
      const moves = this.#moves;
      const walk = this.#walk(start);
      start = null;
      for (const [key, entry] of walk) {
        yield [key, changeOf(this.#table.memory, entry)];
        if (moves === this.#moves) continue;
        start = afterKey(key);
        break;
      }
    }
  }

  #walk(from: CellKey): Iterable<readonly [CellKey, number]> {
    let walk = this.#treeFrom(this.#tree as Tree, from);
    for (const run of this.#runs) walk = merged(walk, this.#entriesFrom(run, from));
    return walk;
  }

  *#treeFrom(tree: Tree, from: CellKey): Iterable<readonly [CellKey, number]> {
    for (let start: CellKey | null = from; start !== null; ) {
      const added = this.#added;
      const entries = tree.entries(start);
      start = null;
      for (const [key, entry] of entries) {
        yield [key, entry];
        if (added === this.#added) continue;
        start = afterKey(key);
        break;
      }
    }
  }

  *#entriesFrom(run: Uint32Array, from: CellKey): Iterable<readonly [CellKey, number]> {
    for (let at = firstEntryFrom(this.#table.memory, run, from); at < run.length; at++) {
      const entry = run[at] as number;
      yield [keyOf(this.#table.memory, entry), entry];
    }
  }

  /** Sorts what is not sorted. */
  #sort(): void {
    if (this.#tree !== null) return;
    const { memory } = this.#table;
    const rest = memory.size - this.#inRuns;
    if (rest >= TREE_ENTRIES) this.#addRun(ordered(memory, this.#inRuns));
    const tree = newTree();
    for (let entry = this.#inRuns; entry < memory.size; entry++) tree.set(keyOf(memory, entry), entry);
    this.#tree = tree;
  }

  #endTree(tree: Tree): void {
    this.#addRun(Uint32Array.from(tree.values()));
    this.#tree = newTree();
    this.#moves++;
  }

  #addRun(added: Uint32Array): void {
    let run = added;
    this.#inRuns += added.length;
    for (let last = this.#runs.at(-1); last !== undefined && last.length < 2 * run.length; last = this.#runs.at(-1)) {
      this.#runs.pop();
      run = mergedRun(this.#table.memory, last, run);
    }
    this.#runs.push(run);
  }
}

function newTree(): Tree {
  return new sortedBtree.default<CellKey, number>(undefined, compareKeys);
}

function mergedRun(memory: CellMemory, left: Uint32Array, right: Uint32Array): Uint32Array {
  const run = new Uint32Array(left.length + right.length);
  let at = 0;
  let [fromLeft, fromRight] = [0, 0];
  while (fromLeft < left.length && fromRight < right.length) {
    const [one, other] = [left[fromLeft] as number, right[fromRight] as number];
    if (compareEntries(memory, one, other) < 0) {
      run[at++] = one;
      fromLeft++;
    } else {
      run[at++] = other;
      fromRight++;
    }
  }
  run.set(left.subarray(fromLeft), at);
  run.set(right.subarray(fromRight), at + left.length - fromLeft);
  return run;
}

/** Two ascending walks as one; they have no key in common. */
function* merged(
  one: Iterable<readonly [CellKey, number]>,
  other: Iterable<readonly [CellKey, number]>,
): Iterable<readonly [CellKey, number]> {
  const others = other[Symbol.iterator]();
  let next = others.next();
  for (const entry of one) {
    for (; !next.done && next.value[0] < entry[0]; next = others.next()) yield next.value;
    yield entry;
  }
  for (; !next.done; next = others.next()) yield next.value;
}
