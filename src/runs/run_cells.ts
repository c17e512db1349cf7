/** The cells of several runs together: for each key, the cell of the newest run that has the key. */

import type { Change } from "../engine/sorted_cells.ts";
import { afterKey, type Cell, type CellKey } from "../maps/cells.ts";
import { type Cursor, compareBytes } from "./block.ts";
import { hashOf } from "./bloom_filter.ts";
import { MergedCursor, type Sign } from "./merge.ts";
import { findIn, mayHaveKey, type Run, RunCursor, RunCursorDown } from "./run.ts";
import type { SstReader } from "./sst.ts";

/** Lets a read of a range skip files, if the keys of the range differ only in their suffix. */
export interface Filtered {
  /** The bytes of the suffix: filters have keys without it. */
  readonly suffixBytes: number;
  /**
   * If all keys from `from` up to `to` are the same without their suffixes: the length of that common part. 0: they
   * differ in more than the suffix. If the length is wrong, cells are not found.
   */
  prefixBytes(from: CellKey, to: CellKey): number;
}

/** Filters have whole keys, so only a read of a single key can skip files. */
export const SINGLE: Filtered = {
  suffixBytes: 0,
  prefixBytes: (from, to) => (to.length === from.length + 1 && to === afterKey(from) ? from.length : 0),
};

export class RunCells {
  readonly #reader: SstReader;
  readonly #runs: () => readonly Run[];
  readonly #filtered: Filtered;

  /** `runs`: returns the present runs, the newest first. If they have changed, the list is another object. */
  constructor(reader: SstReader, runs: () => readonly Run[], filtered: Filtered) {
    this.#reader = reader;
    this.#runs = runs;
    this.#filtered = filtered;
  }

  get(key: CellKey): Buffer | undefined {
    return this.find(key) ?? undefined;
  }

  /** null: the cell is deleted; undefined: no run has the key. */
  find(key: CellKey): Change | undefined {
    const bytes = Buffer.from(key, "latin1");
    const hash = hashOf(bytes, Math.max(bytes.length - this.#filtered.suffixBytes, 0));
    for (const run of this.#runs()) {
      const found = findIn(this.#reader, run, bytes, bytes.length, hash);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const change of this.#walk(from, to, 1)) if (isCell(change)) yield change;
  }

  *rangeDown(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const change of this.#walk(from, to, -1)) if (isCell(change)) yield change;
  }

  /** Like range(), with the cells that are deleted. */
  changes(from: CellKey, to: CellKey): Iterable<readonly [CellKey, Change]> {
    return this.#walk(from, to, 1);
  }

  /** If the runs have changed since the last step, the walk continues in the new ones, which have the same cells. */
  *#walk(from: CellKey, to: CellKey, sign: Sign): Iterable<readonly [CellKey, Change]> {
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
        const key = cursor.key.toString("latin1", 0, cursor.keyBytes);
        const { source, valueAt, valueBytes } = cursor;
        yield [key, valueBytes < 0 ? null : source.subarray(valueAt, valueAt + valueBytes)];
        if (runs === this.#runs()) continue;
        start = Buffer.from(sign > 0 ? afterKey(key) : key, "latin1");
        break;
      }
    }
  }

  /** A cursor over the runs; if `prefixBytes` is not 0, without runs that lack keys with these first bytes of `low`. */
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

function isCell(change: readonly [CellKey, Change]): change is Cell {
  return change[1] !== null;
}

/** A cursor that has been put to its first entry from a key on. */
export function soughtFrom<Sought extends RunCursor | RunCursorDown>(cursor: Sought, key: Buffer): Sought {
  cursor.seek(key);
  return cursor;
}
