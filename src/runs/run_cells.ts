/** The cells that several runs have together: those of the newest run that has a key. */

import { afterKey, type Cell, type CellKey } from "../maps/cells.ts";
import { type Cursor, compareBytes } from "./block.ts";
import { MergedCursor, type Sign } from "./merge.ts";
import { mayHaveKey, type Run, RunCursor, RunCursorDown } from "./run.ts";
import type { SstReader } from "./sst.ts";

/** By what keys have in common, files are told apart that a range needs not read. */
export interface Filtered {
  /** Bytes at the end of each key that its filter leaves out. */
  readonly suffixBytes: number;
  /**
   * So many bytes of `from` are all of each key from `from` up to `to` but its suffix; 0: the keys have less in common.
   * It must be right, or cells are not found.
   */
  prefixBytes(from: CellKey, to: CellKey): number;
}

/** Filters tell of single keys. */
export const SINGLE: Filtered = {
  suffixBytes: 0,
  prefixBytes: (from, to) => (to.length === from.length + 1 && to === afterKey(from) ? from.length : 0),
};

export class RunCells {
  readonly #reader: SstReader;
  readonly #runs: () => readonly Run[];
  readonly #filtered: Filtered;

  /** `runs`: as they are now, the newest first; the list is another one when there are others. */
  constructor(reader: SstReader, runs: () => readonly Run[], filtered: Filtered) {
    this.#reader = reader;
    this.#runs = runs;
    this.#filtered = filtered;
  }

  get(key: CellKey): Buffer | undefined {
    for (const [, value] of this.range(key, afterKey(key))) return value;
    return undefined;
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#walk(from, to, 1);
  }

  rangeDown(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#walk(from, to, -1);
  }

  /** Goes on in new runs if there are any since the last step: they have the same cells, and more. */
  *#walk(from: CellKey, to: CellKey, sign: Sign): Iterable<Cell> {
    const prefixBytes = this.#filtered.prefixBytes(from, to);
    const low = Buffer.from(from, "latin1");
    const high = Buffer.from(to, "latin1");
    const end = sign > 0 ? high : low;
    let start = sign > 0 ? low : high;
    for (let runs: readonly Run[] | null = null; runs !== this.#runs(); ) {
      runs = this.#runs();
      for (const cursor = this.#cursor(low, prefixBytes, sign, start); cursor.isAt; cursor.next()) {
        const difference = sign * compareBytes(cursor.key, cursor.keyBytes, end, end.length);
        if (difference > 0 || (difference === 0 && sign > 0)) return;
        if (cursor.valueBytes < 0) continue;
        const key = cursor.key.toString("latin1", 0, cursor.keyBytes);
        yield [key, cursor.source.subarray(cursor.valueAt, cursor.valueAt + cursor.valueBytes)];
        if (runs === this.#runs()) continue;
        start = Buffer.from(sign > 0 ? afterKey(key) : key, "latin1");
        break;
      }
    }
  }

  /** A cursor over all runs; with `prefixBytes`, only over those that may have keys with so many first bytes of `low`. */
  #cursor(low: Buffer, prefixBytes: number, sign: Sign, start: Buffer): Cursor {
    const cursors: Cursor[] = [];
    for (const run of this.#runs()) {
      if (prefixBytes > 0 && !mayHaveKey(this.#reader, run, low, prefixBytes)) continue;
      const cursor = sign > 0 ? new RunCursor(this.#reader, run) : new RunCursorDown(this.#reader, run);
      cursors.push(soughtFrom(cursor, start));
    }
    return cursors.length === 1 ? (cursors[0] as Cursor) : new MergedCursor(cursors, sign);
  }
}

/** A cursor that has been put to its first entry from a key on. */
export function soughtFrom<Sought extends RunCursor | RunCursorDown>(cursor: Sought, key: Buffer): Sought {
  cursor.seek(key);
  return cursor;
}
