import { open, type RootDatabase, type Transaction } from "lmdb";
import type { Cell, CellKey } from "../maps/cells.ts";
import { dataFile, KEYS_AS_BYTES, SEQ_KEY } from "./store.ts";

/** Behind the seq, and up to the last key that LMDB can hold. */
const ALL = { start: "\x01", end: "\xff".repeat(1978) };

/** The state as its file has it, to be looked at only; a service may be writing to it. */
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

  /** From here on everything is seen as of one moment; answers the seq that the state had reached. */
  look(): number {
    this.leave();
    this.#moment = this.#db.useReadTransaction();
    return this.get(SEQ_KEY)?.readDoubleLE(0) ?? 0;
  }

  /** The moment is over: what is held for it, the service may write over. */
  leave(): void {
    this.#moment?.done();
    this.#moment = null;
  }

  has(key: CellKey): boolean {
    return this.get(key) !== undefined;
  }

  get(key: CellKey): Buffer | undefined {
    // With "binary" as the encoding, which takes options where getBinary() does not.
    return this.#db.get(key, { transaction: this.#moment as Transaction });
  }

  /** Ascending from `from` (included) to `to` (excluded). */
  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const { key, value } of this.#db.getRange({ start: from, end: to, transaction: this.#moment as Transaction }))
      yield [key, value];
  }

  /** All of them, ascending. */
  cells(): Iterable<Cell> {
    return this.range(ALL.start, ALL.end);
  }

  async close(): Promise<void> {
    this.leave();
    await this.#db.close();
  }
}
