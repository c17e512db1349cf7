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
type Walked = Pick<SortedStore, "range">;

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

function readInverted(key: CellKey, at: number): number {
  let left = 0;
  for (let byte = 0; byte < SEQ_BYTES; byte++) left = left * 256 + key.charCodeAt(at + byte);
  return Number.MAX_SAFE_INTEGER - left;
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
const IMAGE_TABLE = "!";

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

/** A version of some cell. */
export interface WalkedVersion {
  /** The group, the cell's key, and the seq, in the order of the walk: cells ascending, their versions from the newest on. */
  readonly group: Group;
  readonly place: CellKey;
  /** Empty if the cell was deleted. */
  readonly bytes: Buffer;
}

/** All versions of all cells. A version that was copied into further images comes once, unless the copies differ. */
export function* allVersions(store: Walked): Iterable<WalkedVersion> {
  for (let from: CellKey = afterPrefix(IMAGE_TABLE); ; ) {
    const first = firstIn(store, from, END_OF_KEYS);
    if (first === undefined) return;
    const group = groupOf(first[0]);
    for (const [place, bytes] of mergedImages(store, group, imagesOf(store, group))) yield { group, place, bytes };
    from = afterPrefix(group);
  }
}

/** Sorts after all keys. */
const END_OF_KEYS = "\xff".repeat(8);

/**
 * The seq of a version that no read finds, because it is in another image than the table of images says; null: there is none. A renewal
 * that was interrupted leaves an image that is not in the table, with copies of versions up to its start; they are no such versions.
 */
export function strayVersion(store: Walked): number | null {
  for (let from: CellKey = afterPrefix(IMAGE_TABLE); ; ) {
    const first = firstIn(store, from, END_OF_KEYS);
    if (first === undefined) return null;
    const group = groupOf(first[0]);
    const starts = [0, ...startsOf(store, group)];
    for (const prefix of imagesOf(store, group)) {
      const start = readInverted(prefix, group.length);
      const isKnown = starts.includes(start);
      const end = isKnown ? (starts[starts.indexOf(start) + 1] ?? Number.POSITIVE_INFINITY) : start;
      for (const [place] of inImage(store, prefix)) if (!(seqIn(place) <= end)) return seqIn(place);
    }
    from = afterPrefix(group);
  }
}

/** Where the images of a group begin, ascending, but for the first. */
function startsOf(store: Walked, group: Group): number[] {
  const prefix = IMAGE_TABLE + group;
  const starts: number[] = [];
  for (const [key] of store.range(prefix, afterPrefix(prefix)))
    if (key.length === prefix.length + SEQ_BYTES) starts.unshift(readInverted(key, prefix.length));
  return starts.filter((start) => start > 0);
}

/** The prefixes of a group's images that have cells. */
function imagesOf(store: Walked, group: Group): CellKey[] {
  const prefixes: CellKey[] = [];
  for (let from = group; ; ) {
    const first = firstIn(store, from, afterPrefix(group));
    if (first === undefined) return prefixes;
    const prefix = first[0].slice(0, group.length + SEQ_BYTES);
    prefixes.push(prefix);
    from = afterPrefix(prefix);
  }
}

/** The versions of several images, in the order of what follows the image in their keys. */
function mergedImages(store: Walked, group: Group, prefixes: readonly CellKey[]): Iterable<Cell> {
  if (prefixes.length === 1) return inImage(store, prefixes[0] as CellKey);
  const middle = prefixes.length >> 1;
  const halves = [prefixes.slice(0, middle), prefixes.slice(middle)] as const;
  return union(mergedImages(store, group, halves[0]), mergedImages(store, group, halves[1]));
}

function* inImage(store: Walked, prefix: CellKey): Iterable<Cell> {
  for (const [key, bytes] of store.range(prefix, afterPrefix(prefix))) yield [key.slice(prefix.length), bytes];
}

function* union(left: Iterable<Cell>, right: Iterable<Cell>): Iterable<Cell> {
  const rights = right[Symbol.iterator]();
  let next = rights.next();
  for (const cell of left) {
    for (; next.done !== true && next.value[0] < cell[0]; next = rights.next()) yield next.value;
    if (next.done !== true && next.value[0] === cell[0] && next.value[1].equals(cell[1])) next = rights.next();
    yield cell;
  }
  for (; next.done !== true; next = rights.next()) yield next.value;
}

/** The seq in a version's place. */
export function seqIn(place: CellKey): number {
  return readInverted(place, place.length - SEQ_BYTES - 1);
}

/** Whether two versions of one group are of the same cell. */
export function areOfOneCell(one: CellKey, other: CellKey): boolean {
  const ends = one.length - SEQ_BYTES - 1;
  return one.length === other.length && other.startsWith(one.slice(0, ends));
}

/** Whether the cell was deleted by the version's event. */
export function isDeletion(place: CellKey): boolean {
  return isGone(place);
}

/** The versions of a cell, from the newest at or before `seq` to the oldest. */
export function* versionsOf(store: Walked, cell: CellKey, seq: number): Iterable<Version> {
  const group = groupOf(cell);
  let before = seq;
  for (let image = imageAt(store, group, seq).start; ; image = imageAt(store, group, image - 1).start) {
    const end = versionKey(cell, image, 0, true) + END;
    for (const [key, bytes] of store.range(versionKey(cell, image, before, false), end)) {
      const at = readInverted(key, key.length - SEQ_BYTES - 1);
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
      after = readInverted(key, key.length - SEQ_BYTES - 1);
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

function isGone(key: CellKey): boolean {
  return key.endsWith(GONE);
}
