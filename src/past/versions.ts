import type { StateStore } from "../engine/ports.ts";
import { afterPrefix, type Cell, type CellKey, type Cells, firstIn, u32Key } from "../maps/cells.ts";

/**
 * Cells with all that they ever held. A version of a cell is a cell of the history's store:
 *
 *     table [map]  image  rest of the cell's key, escaped  0 1  seq, inverted  held   ->  the bytes; none where it was gone
 *
 * so that the versions of a cell stand together, the newest first, and cells stand in their own order: what a cell held right
 * after a seq is one seek, and a range of cells is a walk. Cells that are gone would make walks long, so that from time to
 * time what lives in a group of cells (a table, or the elements of one map) is copied into a new *image*: the versions since a
 * seq, which a walk at a later moment needs alone. A copy has the seq of what it copies.
 */
type Store = Pick<StateStore, "get" | "range" | "rangeDown">;
/** What it takes to walk upwards. */
type Walked = Pick<StateStore, "range">;

/** A cell as one event left it; `bytes` null: gone. */
export interface Version {
  readonly seq: number;
  readonly bytes: Buffer | null;
}

/** Cells of one table, or of one map in the tables that go by map. */
export type Group = string;

/** Tables whose cells are a map's: their letter, and the map's id. */
const BY_MAP = "eu";
const MAP_GROUP_BYTES = 5;

export function groupOf(cell: CellKey): Group {
  return cell.slice(0, BY_MAP.includes(cell[0] as string) ? MAP_GROUP_BYTES : 1);
}

const SEQ_BYTES = 7;
const GONE = "\0";
const HELD = "\x01";
/** Ends a cell's key: less than what any zero in it is escaped to. */
const END = "\0\x01";
const AFTER_END = "\0\x02";

/** Ascending numbers in descending order. */
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

/** Where an image of a group's cells stands. */
function imagePrefix(group: Group, image: number): CellKey {
  return group + inverted(image);
}

export function versionKey(cell: CellKey, image: number, seq: number, held: boolean): CellKey {
  const group = groupOf(cell);
  return `${imagePrefix(group, image)}${escaped(cell.slice(group.length))}${END}${inverted(seq)}${held ? HELD : GONE}`;
}

// Images: which a group has, and what each begins with.

/** Before every table's letter; what a group's images are known by. */
const IMAGE_TABLE = "!";

export interface Image {
  /** The seq that it begins at: walks at moments before it need an older one. 0: the first, which is never written down. */
  readonly start: number;
  /** Cells that were copied into it, and versions in it that say that a cell was gone. */
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

/** The image that holds what a group's cells were right after a seq. */
export function imageAt(store: Walked, group: Group, seq: number): Image {
  const prefix = IMAGE_TABLE + group;
  const found = firstIn(store, imageKey(group, seq), afterPrefix(prefix));
  if (found === undefined) return FIRST_IMAGE;
  const [key, bytes] = found;
  return { start: readInverted(key, prefix.length), copied: bytes.readDoubleLE(0), gone: bytes.readDoubleLE(8) };
}

// Reading.

/** After so many versions that are too new, a walk looks for the next by its key: a seek costs about as much as so many steps. */
const STEPS_MAX = 8;

/** The cells as they were right after an event. They are what they were: nobody writes to them. */
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

/** The version that a cell of the history's store is; null: it tells of an image. */
export function versionIn([key, bytes]: Cell): (Version & { readonly cell: CellKey }) | null {
  if (key.startsWith(IMAGE_TABLE)) return null;
  const group = groupOf(key);
  const ends = key.length - SEQ_BYTES - 1;
  const rest = key.slice(group.length + SEQ_BYTES, ends - END.length);
  return { cell: group + unescaped(rest), seq: readInverted(key, ends), bytes: isGone(key) ? null : bytes };
}

/** What a cell held over time, from the newest version at or before `seq` to the oldest. */
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

/** What a cell came to hold after a seq, from the oldest version to the newest. */
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

/** The image that comes after one, if there is any. */
function imageAfter(store: Store, group: Group, start: number): number | null {
  const prefix = IMAGE_TABLE + group;
  for (const [key] of store.rangeDown(prefix, imageKey(group, start))) return readInverted(key, prefix.length);
  return null;
}

/** At most `limit` cells that live in an image of a group, after a cell, each as the version that it is. */
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
