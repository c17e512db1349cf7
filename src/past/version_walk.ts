/** All versions of a history's cells in one walk, whatever images have them; for checks. */

import { afterPrefix, type CellKey, firstIn } from "../maps/cells.ts";
import { type Group, groupOf, IMAGE_TABLE, readInverted, SEQ_BYTES, seqIn, type Walked } from "./versions.ts";

/** Sorts after all keys. */
const END_OF_KEYS = "\xff".repeat(8);

/** A version of some cell. */
export interface WalkedVersion {
  readonly group: Group;
  /** The end of its key: the cell, the seq, and whether the cell was deleted. */
  readonly place: CellKey;
  /** Empty if the cell was deleted. */
  readonly bytes: Buffer;
  /**
   * No read finds it, because it is in another image than the table of images says. A renewal that was interrupted leaves
   * an image that is not in the table, with copies of versions up to its start; they are not meant.
   */
  readonly isStray: boolean;
}

/**
 * Cells ascending, their versions from the newest on. A version that was copied into further images comes once, unless
 * the copies differ.
 */
export function* allVersions(store: Walked): Iterable<WalkedVersion> {
  for (let from: CellKey = afterPrefix(IMAGE_TABLE); ; ) {
    const first = firstIn(store, from, END_OF_KEYS);
    if (first === undefined) return;
    const group = groupOf(first[0]);
    yield* mergedImages(store, imagesOf(store, group));
    from = afterPrefix(group);
  }
}

/** An image that has cells. */
interface WalkedImage {
  readonly group: Group;
  readonly prefix: CellKey;
  /** The last seq of which a read looks for versions in this image. */
  readonly end: number;
}

/** The newest first. */
function imagesOf(store: Walked, group: Group): WalkedImage[] {
  const starts = startsOf(store, group);
  const images: WalkedImage[] = [];
  for (let from: CellKey = group; ; ) {
    const first = firstIn(store, from, afterPrefix(group));
    if (first === undefined) return images;
    const prefix = first[0].slice(0, group.length + SEQ_BYTES);
    const start = readInverted(prefix, group.length);
    const at = starts.indexOf(start);
    images.push({ group, prefix, end: at === -1 ? start : (starts[at + 1] ?? Number.POSITIVE_INFINITY) });
    from = afterPrefix(prefix);
  }
}

/** Where the images of a group begin, by the table of images, ascending. */
function startsOf(store: Walked, group: Group): number[] {
  const prefix = IMAGE_TABLE + group;
  const starts = new Set([0]);
  for (const [key] of store.range(prefix, afterPrefix(prefix)))
    if (key.length === prefix.length + SEQ_BYTES) starts.add(readInverted(key, prefix.length));
  return [...starts].sort((one, other) => one - other);
}

function mergedImages(store: Walked, images: readonly WalkedImage[]): Iterable<WalkedVersion> {
  const [first, ...others] = images;
  if (first === undefined || others.length === 0) return first === undefined ? [] : inImage(store, first);
  const middle = images.length >> 1;
  return union(mergedImages(store, images.slice(0, middle)), mergedImages(store, images.slice(middle)));
}

function* inImage(store: Walked, { group, prefix, end }: WalkedImage): Iterable<WalkedVersion> {
  for (const [key, bytes] of store.range(prefix, afterPrefix(prefix))) {
    const place = key.slice(prefix.length);
    // A damaged key may have no seq: it is NaN.
    yield { group, place, bytes, isStray: !(seqIn(place) <= end) };
  }
}

function* union(left: Iterable<WalkedVersion>, right: Iterable<WalkedVersion>): Iterable<WalkedVersion> {
  const rights = right[Symbol.iterator]();
  let next = rights.next();
  for (const version of left) {
    for (; next.done !== true && next.value.place < version.place; next = rights.next()) yield next.value;
    const isCopy = next.done !== true && next.value.place === version.place && next.value.bytes.equals(version.bytes);
    yield isCopy && next.value.isStray ? next.value : version;
    if (isCopy) next = rights.next();
  }
  for (; next.done !== true; next = rights.next()) yield next.value;
}

/** Whether two versions of one group are of the same cell. */
export function areOfOneCell(one: CellKey, other: CellKey): boolean {
  const ends = one.length - SEQ_BYTES - 1;
  return one.length === other.length && other.startsWith(one.slice(0, ends));
}
