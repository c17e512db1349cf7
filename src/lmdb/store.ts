import { open, type RootDatabase } from "lmdb";
import type { StateStore } from "../engine/ports.ts";
import type { Cell, CellKey } from "../maps/cells.ts";

/** Holds the seq; cells never have a key of one byte 0. */
const SEQ_KEY = Buffer.from([0]);

/**
 * The state in LMDB. It does not sync: a process that dies loses nothing (the pages are the kernel's by then), a machine
 * that dies may lose the tail or, with it, the store; the log makes it again.
 */
export class LmdbStore implements StateStore {
  readonly #db: RootDatabase<Buffer, Buffer>;
  #seq: number;

  constructor(folder: string) {
    this.#db = open({ path: folder, keyEncoding: "binary", encoding: "binary", noSync: true, cache: false });
    this.#seq = this.#db.get(SEQ_KEY)?.readDoubleLE(0) ?? 0;
  }

  get seq(): number {
    return this.#seq;
  }

  get(key: CellKey): Buffer | undefined {
    return this.#db.get(Buffer.from(key, "latin1"));
  }

  put(key: CellKey, value: Buffer): void {
    this.#db.putSync(Buffer.from(key, "latin1"), value);
  }

  delete(key: CellKey): void {
    this.#db.removeSync(Buffer.from(key, "latin1"));
  }

  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    const options = { start: Buffer.from(from, "latin1"), end: Buffer.from(to, "latin1"), snapshot: false };
    for (const { key, value } of this.#db.getRange(options)) yield [key.toString("latin1"), value];
  }

  write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): void {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeDoubleLE(seq, 0);
    this.#db.transactionSync(() => {
      for (const [key, value] of changes)
        if (value === null) this.delete(key);
        else this.put(key, value);
      this.#db.putSync(SEQ_KEY, bytes);
    });
    this.#seq = seq;
  }

  async close(): Promise<void> {
    await this.#db.close();
  }
}
