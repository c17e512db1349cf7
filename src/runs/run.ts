/**
 * A run: ascending entries in several files, whose keys do not overlap. While runs are merged, their files are deleted
 * one after the other, and the rest of a run begins after the last key that was merged (`after`).
 */

import type { Cursor } from "./block.ts";
import { compareBytes } from "./block.ts";
import { hashOf } from "./bloom_filter.ts";
import { Delegate } from "./delegate.ts";
import { type Sst, SstCursor, SstCursorDown, type SstReader } from "./sst.ts";

export interface Run {
  /** In the order of their keys. */
  readonly ssts: readonly Sst[];
  /** Entries up to this key do not belong to the run any more, though its first file may have them; null: all do. */
  readonly after: Buffer | null;
}

export function bytesOf({ ssts }: Run): number {
  return ssts.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** The value of a key; null: the run has it as deleted; undefined: the run does not have it. `hash`: the key's. */
export function findIn(
  reader: SstReader,
  { ssts, after }: Run,
  key: Uint8Array,
  keyBytes: number,
  hash: number,
): Buffer | null | undefined {
  const sst = ssts[fileFrom(ssts, key, keyBytes)];
  if (sst === undefined || !reader.mayHave(sst, hash)) return undefined;
  if (after !== null && compareBytes(key, keyBytes, after, after.length) <= 0) return undefined;
  const cursor = new SstCursor(reader, sst);
  cursor.seekKey(key, keyBytes);
  if (!cursor.isAt || compareBytes(cursor.key, cursor.keyBytes, key, keyBytes) !== 0) return undefined;
  const { source, valueAt, valueBytes } = cursor;
  return valueBytes < 0 ? null : source.subarray(valueAt, valueAt + valueBytes);
}

/** false: no key of the run is, without its suffix, the first `keyBytes` bytes of `key`. */
export function mayHaveKey(reader: SstReader, run: Run, key: Uint8Array, keyBytes: number): boolean {
  const { ssts } = run;
  const hash = hashOf(key, keyBytes);
  // Keys that begin with these bytes may continue in the next file.
  for (let at = fileFrom(ssts, key, keyBytes); at < ssts.length; at++) {
    const { last } = ssts[at] as Sst;
    if (reader.mayHave(ssts[at] as Sst, hash)) return true;
    if (compareBytes(last, Math.min(last.length, keyBytes), key, keyBytes) > 0) return false;
  }
  return false;
}

/** The first file whose last key is not less than `key`. */
function fileFrom(ssts: readonly Sst[], key: Uint8Array, keyBytes: number): number {
  let low = 0;
  let high = ssts.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { last } = ssts[middle] as Sst;
    if (compareBytes(last, last.length, key, keyBytes) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The part that both directions of a walk have in common. */
abstract class RunWalk<Part extends Cursor> extends Delegate<Part> {
  protected readonly reader: SstReader;
  protected readonly run: Run;
  protected at = -1;

  constructor(reader: SstReader, run: Run) {
    super();
    this.reader = reader;
    this.run = run;
  }
}

/** Walks a run upwards. */
export class RunCursor extends RunWalk<SstCursor> {
  /** Goes to the first entry whose key is not less than `key`. */
  seek(key: Buffer): void {
    const { ssts, after } = this.run;
    const skips = after !== null && key.compare(after) <= 0;
    const from = skips ? after : key;
    this.at = fileFrom(ssts, from, from.length);
    this.#open(from);
    if (skips && this.isAt && compareBytes(this.key, this.keyBytes, after, after.length) === 0) this.next();
  }

  next(): void {
    this.part?.next();
    if (this.isAt) return;
    this.at++;
    this.#open(NOTHING);
  }

  #open(key: Buffer): void {
    const sst = this.run.ssts[this.at];
    this.part = sst === undefined ? null : new SstCursor(this.reader, sst);
    this.part?.seekKey(key, key.length);
  }
}

const NOTHING = Buffer.alloc(0);

/** Walks a run downwards. */
export class RunCursorDown extends RunWalk<SstCursorDown> {
  /** Goes to the last entry whose key is less than `key`. */
  seek(key: Buffer): void {
    this.at = Math.min(fileFrom(this.run.ssts, key, key.length), this.run.ssts.length - 1);
    this.#open(key);
    if (this.part?.isAt !== true) this.#before();
  }

  override get isAt(): boolean {
    const { after } = this.run;
    return super.isAt && (after === null || compareBytes(this.key, this.keyBytes, after, after.length) > 0);
  }

  next(): void {
    this.part?.next();
    if (this.part?.isAt !== true) this.#before();
  }

  #before(): void {
    this.at--;
    this.#open(null);
  }

  #open(key: Buffer | null): void {
    const sst = this.run.ssts[this.at];
    this.part = sst === undefined ? null : new SstCursorDown(this.reader, sst);
    this.part?.seekKey(key);
  }
}
