import { open, type RootDatabase, type Transaction } from "lmdb";
import type { Cell, CellKey } from "../maps/cells.ts";
import { dataFile, KEYS_AS_BYTES, SEQ_KEY } from "./store.ts";

/** All cells: after the key of the seq, up to the largest key that LMDB can hold. */
const ALL = { start: "\x01", end: "\xff".repeat(1978) };

/** The state's file, opened for reading; a service may be writing to it. Call `look` before any read. */
export class StateFile {
  readonly #db: RootDatabase<Buffer, CellKey>;
  #moment: Transaction | null = null;

  constructor(folder: string) {
    this.#db = open({
      path: dataFile(folder),
      noSubdir: true,
      readOnly: true,
      encoding: "binary",
      keyEncoder: KEYS_AS_BYTES,
    } as Parameters<typeof open>[0] & { keyEncoder: typeof KEYS_AS_BYTES });
  }

  /**
   * Begins a read of the present moment: all reads until `leave` show it. Returns the last seq that the state includes.
   */
  look(): number {
    this.leave();
    this.#moment = this.#db.useReadTransaction();
    return this.get(SEQ_KEY)?.readDoubleLE(0) ?? 0;
  }

  /** Releases the pinned moment, so that the service can reuse its pages. */
  leave(): void {
    this.#moment?.done();
    this.#moment = null;
  }

  has(key: CellKey): boolean {
    return this.get(key) !== undefined;
  }

  get(key: CellKey): Buffer | undefined {
    // The encoding "binary" makes get() return a Buffer; getBinary() takes no options.
    return this.#db.get(key, { transaction: this.#moment as Transaction });
  }

  /** Ascending from `from` (included) to `to` (excluded). */
  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const { key, value } of this.#db.getRange({ start: from, end: to, transaction: this.#moment as Transaction }))
      yield [key, value];
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
