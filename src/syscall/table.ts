import { afterPrefix, type CellKey, type Cells } from "../maps/cells.ts";

/** How a row is written into a cell's bytes and read back. */
export interface RowCodec<Row> {
  encode(row: Row): Buffer;
  decode(bytes: Buffer): Row;
}

const CACHED_ROWS_MAX = 65_536;

/** Rows of one kind in the cells, under keys that begin with one letter; decoded rows are remembered. */
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

  /** Rows whose key begins with `prefix`, in key order. */
  *under(prefix: CellKey): Iterable<readonly [key: CellKey, row: Row]> {
    const from = this.#letter + prefix;
    for (const [key, bytes] of this.#cells.range(from, afterPrefix(from)))
      yield [key.slice(this.#letter.length), this.#codec.decode(bytes)];
  }

  /** The keys alone, for whom rows would be read in vain. */
  *keysUnder(prefix: CellKey): Iterable<CellKey> {
    const from = this.#letter + prefix;
    for (const [key] of this.#cells.range(from, afterPrefix(from))) yield key.slice(this.#letter.length);
  }

  /** How many rows there are whose key begins with `prefix`. */
  countUnder(prefix: CellKey): number {
    let count = 0;
    for (const _ of this.keysUnder(prefix)) count++;
    return count;
  }

  /** Rows from `from` on, in key order. */
  *from(from: CellKey): Iterable<readonly [key: CellKey, row: Row]> {
    for (const [key, bytes] of this.#cells.range(this.#letter + from, afterPrefix(this.#letter)))
      yield [key.slice(this.#letter.length), this.#codec.decode(bytes)];
  }

  /** The cells have gone back to an earlier state. */
  forget(): void {
    this.#decoded.clear();
  }

  #remember(key: CellKey, row: Row): void {
    if (this.#decoded.size >= CACHED_ROWS_MAX) this.#decoded.clear();
    this.#decoded.set(key, row);
  }
}

/** A count or an id: eight bytes, so that no number of theirs is too large. */
export const numberCodec: RowCodec<number> = {
  encode(number) {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeDoubleLE(number, 0);
    return bytes;
  },
  decode: (bytes) => bytes.readDoubleLE(0),
};

/** Rows that are read far more often than written. */
export function jsonCodec<Row>(): RowCodec<Row> {
  return {
    encode: (row) => Buffer.from(JSON.stringify(row)),
    decode: (bytes) => JSON.parse(bytes.toString()) as Row,
  };
}
