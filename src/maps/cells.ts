/**
 * A cell is one key and its bytes in the state. Keys order bytewise, so they are held as strings with one character
 * (U+0000 to U+00FF) a byte: strings of that kind compare in the same order as the bytes, are values in a Map, and cost
 * no allocation to compare.
 */
export type CellKey = string;
export type Cell = readonly [key: CellKey, value: Buffer];

/**
 * What a map type's store is written over, and all that it sees of the world. LMDB, memory and any moment of the past
 * satisfy it. Buffers that go in or come out belong to the cells from then on: nobody writes to them.
 */
export interface Cells {
  get(key: CellKey): Buffer | undefined;
  put(key: CellKey, value: Buffer): void;
  delete(key: CellKey): void;
  /** Ascending from `from` (included) to `to` (excluded). The cells must not change while it is walked. */
  range(from: CellKey, to: CellKey): Iterable<Cell>;
}

/** Four bytes, most significant first, so that numbers order as keys. */
export function u32Key(number: number): CellKey {
  return String.fromCharCode((number >>> 24) & 255, (number >>> 16) & 255, (number >>> 8) & 255, number & 255);
}

/** Reads back what u32Key wrote at `offset`. */
export function readU32Key(key: CellKey, offset: number): number {
  return (
    ((key.charCodeAt(offset) << 24) |
      (key.charCodeAt(offset + 1) << 16) |
      (key.charCodeAt(offset + 2) << 8) |
      key.charCodeAt(offset + 3)) >>>
    0
  );
}

/** The bytes of a buffer as part of a key. */
export function bytesKey(bytes: Buffer): CellKey {
  return bytes.toString("latin1");
}

/** The least key that is greater than every key beginning with `prefix`; a prefix is never all 255s. */
export function afterPrefix(prefix: CellKey): CellKey {
  let last = prefix.length - 1;
  while (prefix.charCodeAt(last) === 255) last--;
  return prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1);
}

/** The least key greater than `key`. */
export function afterKey(key: CellKey): CellKey {
  return `${key}\0`;
}

/** The first cell of a range, if there is any. */
export function firstIn(cells: Pick<Cells, "range">, from: CellKey, to: CellKey): Cell | undefined {
  for (const cell of cells.range(from, to)) return cell;
  return undefined;
}

/** Keys in the order of their bytes. */
export function compareKeys(a: CellKey, b: CellKey): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
