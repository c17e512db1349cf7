/**
 * A key of the state. Each character (U+0000 to U+00FF) is one byte, so that comparing strings orders keys by their
 * bytes. Strings can be keys of a Map, and comparing them allocates nothing.
 */
export type CellKey = string;
export type Cell = readonly [key: CellKey, value: Buffer];

/**
 * An ordered table of keys and bytes, the only storage that map types read and write. LMDB, memory and the state as of
 * a past moment implement it. Do not write to a buffer that you have put or got: the cells may share it.
 */
export interface Cells {
  get(key: CellKey): Buffer | undefined;
  put(key: CellKey, value: Buffer): void;
  delete(key: CellKey): void;
  /** The cells from `from` (included) to `to` (excluded), ascending. Do not change cells during the iteration. */
  range(from: CellKey, to: CellKey): Iterable<Cell>;
}

/** Four bytes, most significant first, so that keys are in the order of the numbers. */
export function u32Key(number: number): CellKey {
  return String.fromCharCode((number >>> 24) & 255, (number >>> 16) & 255, (number >>> 8) & 255, number & 255);
}

/** Reads the number that `u32Key` wrote at `offset`. */
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

/** The first key after every key that begins with `prefix`, which must have a byte other than 255. */
export function afterPrefix(prefix: CellKey): CellKey {
  let last = prefix.length - 1;
  while (prefix.charCodeAt(last) === 255) last--;
  return prefix.slice(0, last) + String.fromCharCode(prefix.charCodeAt(last) + 1);
}

/** The first key after `key`. */
export function afterKey(key: CellKey): CellKey {
  return `${key}\0`;
}

/** The first cell of a range; undefined if there is none. */
export function firstIn(cells: Pick<Cells, "range">, from: CellKey, to: CellKey): Cell | undefined {
  for (const cell of cells.range(from, to)) return cell;
  return undefined;
}

/** Compares keys by their bytes. */
export function compareKeys(a: CellKey, b: CellKey): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
