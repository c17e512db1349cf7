/**
 * Reads the memory of a cell table (`cell_table.ts`) in the order of its keys. To sort 65,536 cells and hand them to
 * LMDB takes 0.1 s, so the state writer's thread does both. If the engine's thread reads a range during that write, it
 * makes an order of the same cells for itself.
 */

import { asBuffer } from "../log/row_transfer.ts";
import type { CellKey } from "../maps/cells.ts";

/** The new bytes of a cell; null: the cell is deleted. */
export type Change = Buffer | null;

/** The words of an entry: their number, and the index of each. */
export const WIDTH = 5;
export const HASH = 0;
export const KEY_AT = 1;
export const KEY_BYTES = 2;
export const VALUE_AT = 3;
export const VALUE_BYTES = 4;
/** In place of the value's length: the cell is deleted. */
export const GONE = 0xffffffff;

/** The arrays of a cell table, in memory that threads share. `cell_table.ts` has an example. */
export interface CellMemory {
  /** The number of entries. */
  readonly size: number;
  /** WIDTH words each. */
  readonly entries: Uint32Array;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

/** The cells of a table that does not change any more. The first read sorts them. */
export class SortedCells {
  readonly #memory: CellMemory;
  #order: Uint32Array | null = null;

  constructor(memory: CellMemory) {
    const { keys, values } = memory;
    this.#memory = { ...memory, keys: asBuffer(keys), values: asBuffer(values) };
  }

  /** Ascending. */
  *entries(): Generator<readonly [key: CellKey, change: Change], undefined> {
    this.#order ??= ordered(this.#memory);
    for (const entry of this.#order) yield [keyOf(this.#memory, entry), changeOf(this.#memory, entry)];
  }
}

export function keyOf({ entries, keys }: CellMemory, entry: number): CellKey {
  const at = entry * WIDTH;
  const start = entries[at + KEY_AT] as number;
  return bufferOf(keys).toString("latin1", start, start + (entries[at + KEY_BYTES] as number));
}

export function changeOf({ entries, values }: CellMemory, entry: number): Change {
  const at = entry * WIDTH;
  const bytes = entries[at + VALUE_BYTES] as number;
  if (bytes === GONE) return null;
  const start = entries[at + VALUE_AT] as number;
  return bufferOf(values).subarray(start, start + bytes);
}

function bufferOf(bytes: Uint8Array): Buffer {
  return bytes instanceof Buffer ? bytes : asBuffer(bytes);
}

/** Negative, 0 or positive, as for a sort of their keys. */
export function compareEntries({ entries, keys }: CellMemory, one: number, other: number): number {
  const [oneAt, otherAt] = [one * WIDTH, other * WIDTH];
  const [oneBytes, otherBytes] = [entries[oneAt + KEY_BYTES] as number, entries[otherAt + KEY_BYTES] as number];
  const [oneStart, otherStart] = [entries[oneAt + KEY_AT] as number, entries[otherAt + KEY_AT] as number];
  const most = Math.min(oneBytes, otherBytes);
  for (let at = 0; at < most; at++) {
    const difference = (keys[oneStart + at] as number) - (keys[otherStart + at] as number);
    if (difference !== 0) return difference;
  }
  return oneBytes - otherBytes;
}

/** The first of entries in the order of their keys whose key is not less than `from`; their number if there is none. */
export function firstEntryFrom(memory: CellMemory, order: Uint32Array, from: CellKey): number {
  let low = 0;
  let high = order.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keyOf(memory, order[middle] as number) < from) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Ranges of up to this many entries are sorted by insertion. */
const FEW = 12;

/**
 * The entries from `first` on in the order of their keys, sorted without making strings: Bentley and Sedgewick's
 * multikey quicksort compares one byte of the keys after the other. It sorts entries with a common prefix by the bytes
 * after the prefix.
 */
export function ordered({ size, entries, keys }: CellMemory, first = 0): Uint32Array {
  const order = new Uint32Array(size - first);
  for (let at = 0; at < order.length; at++) order[at] = first + at;
  /** -1: the key has ended. */
  const byteAt = (entry: number, depth: number): number => {
    const at = entry * WIDTH;
    return depth < (entries[at + KEY_BYTES] as number)
      ? (keys[(entries[at + KEY_AT] as number) + depth] as number)
      : -1;
  };
  const isBefore = (left: number, right: number, depth: number): boolean => {
    for (let at = depth; ; at++) {
      const difference = byteAt(left, at) - byteAt(right, at);
      if (difference !== 0) return difference < 0;
      if (byteAt(left, at) < 0) return false;
    }
  };
  const insert = (low: number, high: number, depth: number): void => {
    for (let next = low + 1; next < high; next++) {
      const entry = order[next] as number;
      let place = next;
      for (; place > low && isBefore(entry, order[place - 1] as number, depth); place--)
        order[place] = order[place - 1] as number;
      order[place] = entry;
    }
  };
  /** Ranges that are not sorted yet. Their keys have the first `depth` bytes in common. */
  const todo: [low: number, high: number, depth: number][] = [[0, order.length, 0]];
  for (let range = todo.pop(); range !== undefined; range = todo.pop()) {
    const [low, high, depth] = range;
    if (high - low <= FEW) {
      insert(low, high, depth);
      continue;
    }
    const pivot = byteAt(order[(low + high) >>> 1] as number, depth);
    let less = low;
    let more = high;
    for (let at = low; at < more; ) {
      const entry = order[at] as number;
      const byte = byteAt(entry, depth);
      if (byte < pivot) {
        order[at++] = order[less] as number;
        order[less++] = entry;
      } else if (byte > pivot) {
        order[at] = order[--more] as number;
        order[more] = entry;
      } else at++;
    }
    todo.push([low, less, depth], [more, high, depth]);
    if (pivot >= 0) todo.push([less, more, depth + 1]);
  }
  return order;
}
