/**
 * The layout of the history's store, in which each version of a cell is a cell:
 *
 *     table [map]  image  rest of the cell's key, escaped  0 1  seq, inverted  held   ->  the bytes; none if the cell was deleted
 *
 * The versions of a cell are adjacent, the newest first, and the cells keep their order. So reading a cell as of a seq
 * is one seek, and reading a range of cells is a walk. Deleted cells would make walks long. So from time to time the
 * living cells of a group (a table, or the elements of one map) are copied into a new *image*; walks as of later
 * moments read only this image. A copy keeps the seq of its original.
 */

import type { SortedStore } from "../engine/ports.ts";
import { afterPrefix, type Cell, type CellKey, type Cells, firstIn, u32Key } from "../maps/cells.ts";

type Store = Pick<SortedStore, "get" | "range" | "rangeDown">;
/** The part of a store that upward walks need. */
export type Walked = Pick<SortedStore, "range">;

/** The content of a cell after one event; `bytes` null: the cell was deleted. */
export interface Version {
  readonly seq: number;
  readonly bytes: Buffer | null;
}

/** The cells of one table, or of one map in the tables that are divided by map. */
export type Group = string;

/** Tables that are divided by map: their keys begin with the table's letter and the map's id. */
const BY_MAP = "eu";
const MAP_GROUP_BYTES = 5;

export function groupOf(cell: CellKey): Group {
  return cell.slice(0, BY_MAP.includes(cell[0] as string) ? MAP_GROUP_BYTES : 1);
}

export const SEQ_BYTES = 7;
/** The last byte of a version: of a deletion, and of a value. */
export const GONE_BYTE = 0;
export const HELD_BYTE = 1;
const GONE = "\0";
const HELD = "\x01";
/** The end of a cell's key. It sorts before the escape sequence of a zero. */
export const END = "\0\x01";
const AFTER_END = "\0\x02";

/** Encodes ascending numbers in descending order. */
function inverted(seq: number): CellKey {
  const left = Number.MAX_SAFE_INTEGER - seq;
  return u32Key(Math.floor(left / 2 ** 32)).slice(1) + u32Key(left % 2 ** 32);
}

/** Reads the number that `inverted` wrote. */
export function readInverted(key: CellKey, at: number): number {
  let left = 0;
  for (let byte = 0; byte < SEQ_BYTES; byte++) left = left * 256 + key.charCodeAt(at + byte);
  return Number.MAX_SAFE_INTEGER - left;
}

/** The seq in a version's key, or in the end of one. */
export function seqIn(key: CellKey): number {
  return readInverted(key, key.length - SEQ_BYTES - 1);
}

function escaped(rest: CellKey): CellKey {
  return rest.replaceAll("\0", "\0\xff");
}

function unescaped(rest: CellKey): CellKey {
  return rest.replaceAll("\0\xff", "\0");
}

/** The prefix of a group's image. */
function imagePrefix(group: Group, image: number): CellKey {
  return group + inverted(image);
}

export function versionKey(cell: CellKey, image: number, seq: number, held: boolean): CellKey {
  const group = groupOf(cell);
  return `${imagePrefix(group, image)}${escaped(cell.slice(group.length))}${END}${inverted(seq)}${held ? HELD : GONE}`;
}

/**
 * Lets a store's filters skip files (`runs/run_cells.ts`): the keys of a cell's versions differ only in the suffix. A
 * range is within one cell if `from` has END right before its suffix, and `to` begins with the same bytes up to there.
 * The image's seq is not searched for END, and an escaped key cannot contain it.
 */
export const VERSION_FILTER = {
  suffixBytes: SEQ_BYTES + 1,
  prefixBytes(from: CellKey, to: CellKey): number {
    const ends = from.length - SEQ_BYTES - 1;
    const isOfCell =
      ends >= groupOf(from).length + SEQ_BYTES + END.length &&
      from.startsWith(END, ends - END.length) &&
      to.startsWith(from.slice(0, ends));
    return isOfCell ? ends : 0;
  },
};

// Images: the table of each group's images.

/** Sorts before each table's letter. */
export const IMAGE_TABLE = "!";

export interface Image {
  /**
   * The seq at which the image begins; earlier moments need an older image. 0: the first image, which has no entry in
   * the table.
   */
  readonly start: number;
  /** The cells that were copied into the image, and the deletions that it has. */
  readonly copied: number;
  readonly gone: number;
}

const FIRST_IMAGE: Image = { start: 0, copied: 0, gone: 0 };

export function imageKey(group: Group, start: number): CellKey {
  return IMAGE_TABLE + group + inverted(start);
}

export function imageBytes({ copied, gone }: Image): Buffer {
  const bytes = Buffer.allocUnsafe(16);
  bytes.writeDoubleLE(copied, 0);
  bytes.writeDoubleLE(gone, 8);
  return bytes;
}

/** The image to read a group's cells from as of a seq. */
export function imageAt(store: Walked, group: Group, seq: number): Image {
  const prefix = IMAGE_TABLE + group;
  const found = firstIn(store, imageKey(group, seq), afterPrefix(prefix));
  if (found === undefined) return FIRST_IMAGE;
  const [key, bytes] = found;
  return { start: readInverted(key, prefix.length), copied: bytes.readDoubleLE(0), gone: bytes.readDoubleLE(8) };
}

// Reading.

/**
 * After this many versions that are too new, a walk seeks the next one by its key; a seek costs about as much as this
 * many steps.
 */
const STEPS_MAX = 8;

/** The cells right after an event, read-only. */
export class CellsAsOf implements Cells {
  readonly #store: Store;
  readonly #seq: number;
  readonly #images = new Map<Group, number>();

  constructor(store: Store, seq: number) {
    this.#store = store;
    this.#seq = seq;
  }

  get(cell: CellKey): Buffer | undefined {
    const image = this.#image(groupOf(cell));
    const from = versionKey(cell, image, this.#seq, false);
    const found = firstIn(this.#store, from, versionKey(cell, image, 0, true) + END);
    return found === undefined || isGone(found[0]) ? undefined : found[1];
  }

  *range(from: CellKey, to: CellKey): Iterable<Cell> {
    const group = groupOf(from);
    const image = imagePrefix(group, this.#image(group));
    const end = to.startsWith(group) ? image + escaped(to.slice(group.length)) : afterPrefix(image);
    let next: CellKey | null = image + escaped(from.slice(group.length));
    while (next !== null) {
      const start: CellKey = next;
      next = null;
      let walked: CellKey | null = null;
      let done = false;
      let steps = 0;
      for (const [key, bytes] of this.#store.range(start, end)) {
        const ends = key.length - SEQ_BYTES - 1;
        const cell = key.slice(0, ends);
        if (cell !== walked) {
          walked = cell;
          done = false;
          steps = 0;
        }
        if (!done && readInverted(key, ends) <= this.#seq) {
          done = true;
          if (!isGone(key)) yield [group + unescaped(cell.slice(image.length, -END.length)), bytes];
        }
        if (++steps < STEPS_MAX) continue;
        next = done ? cell.slice(0, -END.length) + AFTER_END : cell + inverted(this.#seq);
        break;
      }
    }
  }

  put(): never {
    throw new Error("writing to cells as of an earlier moment: they are what they were");
  }

  delete(): never {
    return this.put();
  }

  #image(group: Group): number {
    let start = this.#images.get(group);
    if (start === undefined) {
      start = imageAt(this.#store, group, this.#seq).start;
      this.#images.set(group, start);
    }
    return start;
  }
}

/** The versions of a cell, from the newest at or before `seq` to the oldest. */
export function* versionsOf(store: Walked, cell: CellKey, seq: number): Iterable<Version> {
  const group = groupOf(cell);
  let before = seq;
  for (let image = imageAt(store, group, seq).start; ; image = imageAt(store, group, image - 1).start) {
    const end = versionKey(cell, image, 0, true) + END;
    for (const [key, bytes] of store.range(versionKey(cell, image, before, false), end)) {
      const at = seqIn(key);
      before = at - 1;
      yield { seq: at, bytes: isGone(key) ? null : bytes };
    }
    if (image === 0) return;
  }
}

/** The versions of a cell after `seq`, from the oldest to the newest. */
export function* versionsAfter(store: Store, cell: CellKey, seq: number): Iterable<Version> {
  const group = groupOf(cell);
  let after = seq;
  for (let image: number | null = imageAt(store, group, seq).start; image !== null; ) {
    const newest = versionKey(cell, image, Number.MAX_SAFE_INTEGER, false);
    for (const [key, bytes] of store.rangeDown(newest, versionKey(cell, image, after, false))) {
      after = seqIn(key);
      yield { seq: after, bytes: isGone(key) ? null : bytes };
    }
    image = imageAfter(store, group, image);
  }
}

/** The next newer image, null if there is none. */
function imageAfter(store: Store, group: Group, start: number): number | null {
  const prefix = IMAGE_TABLE + group;
  for (const [key] of store.rangeDown(prefix, imageKey(group, start))) return readInverted(key, prefix.length);
  return null;
}

/** At most `limit` living cells of an image after the cell `after`, each with the seq of its version. */
export function livingVersions(
  store: Store,
  group: Group,
  image: number,
  after: CellKey | null,
  limit: number,
): (readonly [Cell, seq: number])[] {
  const prefix = imagePrefix(group, image);
  const from = after === null ? prefix : prefix + escaped(after.slice(group.length)) + AFTER_END;
  const living: (readonly [Cell, seq: number])[] = [];
  let walked: CellKey | null = null;
  for (const [key, bytes] of store.range(from, afterPrefix(prefix))) {
    const ends = key.length - SEQ_BYTES - 1;
    const cell = key.slice(0, ends);
    if (cell === walked) continue;
    walked = cell;
    if (isGone(key)) continue;
    living.push([[group + unescaped(cell.slice(prefix.length, -END.length)), bytes], readInverted(key, ends)]);
    if (living.length === limit) break;
  }
  return living;
}

/** Whether the version whose key this is, or ends so, is a deletion. */
export function isGone(key: CellKey): boolean {
  return key.endsWith(GONE);
}
