/** The state's files, opened for reading; a service may be writing to them. */

import { open, type RootDatabase, type Transaction } from "lmdb";
import { overlaid } from "../engine/overlaid.ts";
import { dataFile } from "../lmdb/marker.ts";
import { KEYS_AS_BYTES, SEQ_KEY } from "../lmdb/store.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { RunsReader } from "../runs/reader.ts";
import { SINGLE } from "../runs/run_cells.ts";
import { runsFolder } from "./runs_folder.ts";

/** All cells: after the key of the seq, up to the largest key that LMDB can hold. */
const ALL = { start: "\x01", end: "\xff".repeat(1978) };

/** A moment of the state. */
interface Moment {
  readonly seq: number;
  readonly transaction: Transaction;
  /** null: all cells are in LMDB. */
  readonly runs: RunsReader | null;
}

/** Call `look` before any read. */
export class StateFile {
  readonly #folder: string;
  readonly #log: string;
  readonly #db: RootDatabase<Buffer, CellKey>;
  #moment: Moment | null = null;

  /** `log`: the id of the log that it is made from. */
  constructor(folder: string, log: string) {
    this.#folder = folder;
    this.#log = log;
    this.#db = open({
      path: dataFile(folder),
      noSubdir: true,
      readOnly: true,
      encoding: "binary",
      keyEncoder: KEYS_AS_BYTES,
    } as Parameters<typeof open>[0] & { keyEncoder: typeof KEYS_AS_BYTES });
  }

  /**
   * Pins the present moment, as of which all reads are until `leave`. Returns the last seq that the state includes.
   * Throws an Error if the runs do not fit the LMDB file.
   */
  look(): number {
    this.leave();
    for (;;) {
      const runs = RunsReader.open(runsFolder(this.#folder), SINGLE);
      const transaction = this.#db.useReadTransaction();
      // Whatever was folded in between was in a run before.
      if (runs !== null && !runs.isCurrent) {
        transaction.done();
        runs.close();
        continue;
      }
      const lmdbSeq = this.#db.get(SEQ_KEY, { transaction })?.readDoubleLE(0) ?? 0;
      const isLayered = runs !== null && !runs.isEmpty;
      this.#moment = { seq: isLayered ? runs.seq : lmdbSeq, transaction, runs: isLayered ? runs : null };
      if (!isLayered) runs?.close();
      else if (runs.log !== this.#log || lmdbSeq < runs.base || lmdbSeq > runs.seq)
        throw new Error("its runs do not continue its LMDB file");
      return this.#moment.seq;
    }
  }

  /** Releases the pinned moment, so that the service can reuse its pages. */
  leave(): void {
    this.#moment?.transaction.done();
    this.#moment?.runs?.close();
    this.#moment = null;
  }

  has(key: CellKey): boolean {
    return this.get(key) !== undefined;
  }

  get(key: CellKey): Buffer | undefined {
    const { transaction, runs } = this.#moment as Moment;
    const found = runs?.cells.find(key);
    // The encoding "binary" makes get() return a Buffer; getBinary() takes no options.
    return found === undefined ? this.#db.get(key, { transaction }) : (found ?? undefined);
  }

  /** Ascending from `from` (included) to `to` (excluded). */
  range(from: CellKey, to: CellKey): Iterable<Cell> {
    const { runs } = this.#moment as Moment;
    const beneath = this.#beneath(from, to);
    return runs === null ? beneath : overlaid(runs.cells.changes(from, to)[Symbol.iterator](), beneath, to);
  }

  *#beneath(start: CellKey, end: CellKey): Iterable<Cell> {
    const { transaction } = this.#moment as Moment;
    for (const { key, value } of this.#db.getRange({ start, end, transaction })) yield [key, value];
  }

  /** All cells, ascending. */
  cells(): Iterable<Cell> {
    return this.range(ALL.start, ALL.end);
  }

  async close(): Promise<void> {
    this.leave();
    await this.#db.close();
  }
}
