import { afterPrefix, type CellKey, type Cells } from "../maps/cells.ts";

/** Writes rows to cells' bytes and reads them back. */
export interface RowCodec<Row> {
  encode(row: Row): Buffer;
  decode(bytes: Buffer): Row;
}

const CACHED_ROWS_MAX = 65_536;

/** A table: rows of one kind in cells whose keys begin with one letter. Decoded rows are cached. */
export class Table<Row extends {}> {
  readonly #cells: Cells;
  readonly #letter: string;
  readonly #codec: RowCodec<Row>;
  readonly #decoded = new Map<CellKey, Row>();

  constructor(cells: Cells, letter: string, codec: RowCodec<Row>) {
    this.#cells = cells;
    this.#letter = letter;
    this.#codec = codec;
  }

  get(key: CellKey): Row | undefined {
    const known = this.#decoded.get(key);
    if (known !== undefined) return known;
    const bytes = this.#cells.get(this.#letter + key);
    if (bytes === undefined) return undefined;
    const row = this.#codec.decode(bytes);
    this.#remember(key, row);
    return row;
  }

  put(key: CellKey, row: Row): void {
    this.#cells.put(this.#letter + key, this.#codec.encode(row));
    this.#remember(key, row);
  }

  delete(key: CellKey): void {
    this.#cells.delete(this.#letter + key);
    this.#decoded.delete(key);
  }

  /** The rows whose keys begin with `prefix`, in key order. */
  *under(prefix: CellKey): Iterable<readonly [key: CellKey, row: Row]> {
    const from = this.#letter + prefix;
    for (const [key, bytes] of this.#cells.range(from, afterPrefix(from)))
      yield [key.slice(this.#letter.length), this.#codec.decode(bytes)];
  }

  /** The keys that begin with `prefix`, without decoding rows. */
  *keysUnder(prefix: CellKey): Iterable<CellKey> {
    const from = this.#letter + prefix;
    for (const [key] of this.#cells.range(from, afterPrefix(from))) yield key.slice(this.#letter.length);
  }

  /** The number of rows whose keys begin with `prefix`. */
  countUnder(prefix: CellKey): number {
    let count = 0;
    for (const _ of this.keysUnder(prefix)) count++;
    return count;
  }

  /** The rows from the key `from` on, in key order. */
  *from(from: CellKey): Iterable<readonly [key: CellKey, row: Row]> {
    for (const [key, bytes] of this.#cells.range(this.#letter + from, afterPrefix(this.#letter)))
      yield [key.slice(this.#letter.length), this.#codec.decode(bytes)];
  }

  /** Drops the cache: the cells have gone back to an earlier state. */
  forget(): void {
    this.#decoded.clear();
  }

  #remember(key: CellKey, row: Row): void {
    if (this.#decoded.size >= CACHED_ROWS_MAX) this.#decoded.clear();
    this.#decoded.set(key, row);
  }
}

/** Counts and ids, as doubles of eight bytes: exact up to 2^53. */
export const numberCodec: RowCodec<number> = {
  encode(number) {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeDoubleLE(number, 0);
    return bytes;
  },
  decode: (bytes) => bytes.readDoubleLE(0),
};

/** Rows as JSON, for rows that are read far more often than written. */
export function jsonCodec<Row>(): RowCodec<Row> {
  return {
    encode: (row) => Buffer.from(JSON.stringify(row)),
    decode: (bytes) => JSON.parse(bytes.toString()) as Row,
  };
}
