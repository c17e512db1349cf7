/**
 * Postings: the events of a segment that have a value, as offsets from its first event. The first byte says how they
 * are written, whichever is smallest:
 *
 *     0  distances: varints, each the distance from the offset before it, less one; the first from -1
 *     1  runs: pairs of varints, the events before a run that do not have the value, and its length less one
 *     2  a bitmap
 *
 * Offsets 0, 1, 2, 9 are 00 00 00 00 06 as distances, 01 00 02 06 00 as runs and 02 07 02 as a bitmap.
 */

import { Damaged } from "../supervisor/derived_parts.ts";
import { Bits, SEGMENT_EVENTS } from "./bits.ts";

const DISTANCES = 0;
const RUNS = 1;
const BITMAP = 2;

/** `offsets`: ascending, none twice, at least one. */
export function postingsBytes(offsets: Uint16Array): Buffer {
  let distances = 0;
  let runs = 0;
  let before = -1;
  let runStart = 0;
  for (let at = 0; at < offsets.length; at++) {
    const offset = offsets[at] as number;
    const distance = offset - before - 1;
    distances += varintBytes(distance);
    if (distance > 0 || at === 0) {
      if (at > 0) runs += varintBytes(before - runStart);
      runs += varintBytes(distance);
      runStart = offset;
    }
    before = offset;
  }
  runs += varintBytes(before - runStart);
  const bitmap = (before >>> 3) + 1;
  const bytes = Buffer.allocUnsafeSlow(1 + Math.min(distances, runs, bitmap));
  if (bitmap < distances && bitmap < runs) return asBitmap(offsets, bytes);
  return runs < distances ? asRuns(offsets, bytes) : asDistances(offsets, bytes);
}

function asDistances(offsets: Uint16Array, bytes: Buffer): Buffer {
  bytes[0] = DISTANCES;
  let end = 1;
  let before = -1;
  for (const offset of offsets) {
    end = writeVarint(bytes, end, offset - before - 1);
    before = offset;
  }
  return bytes;
}

function asRuns(offsets: Uint16Array, bytes: Buffer): Buffer {
  bytes[0] = RUNS;
  let end = 1;
  let before = -1;
  for (let at = 0; at < offsets.length; ) {
    const start = offsets[at] as number;
    let last = start;
    while (++at < offsets.length && offsets[at] === last + 1) last++;
    end = writeVarint(bytes, end, start - before - 1);
    end = writeVarint(bytes, end, last - start);
    before = last;
  }
  return bytes;
}

function asBitmap(offsets: Uint16Array, bytes: Buffer): Buffer {
  bytes.fill(0);
  bytes[0] = BITMAP;
  for (const offset of offsets) {
    const at = 1 + (offset >>> 3);
    bytes[at] = (bytes[at] as number) | (1 << (offset & 7));
  }
  return bytes;
}

/** Adds the offsets of postings to a set. Throws Damaged for bytes that `postingsBytes` does not write. */
export function addPostings(bytes: Uint8Array, bits: Bits): void {
  const form = bytes[0];
  if (form === BITMAP) {
    if (bytes.length > 1 + SEGMENT_EVENTS / 8) throw unreadable();
    bits.addBitmap(bytes.subarray(1));
    return;
  }
  if (form !== DISTANCES && form !== RUNS) throw unreadable();
  const reader = new VarintReader(bytes, 1);
  let before = -1;
  while (!reader.isAtEnd) {
    const start = before + 1 + reader.next();
    const last = form === RUNS ? start + reader.next() : start;
    if (!(last < SEGMENT_EVENTS)) throw unreadable();
    if (form === RUNS) bits.addRange(start, last);
    else bits.add(start);
    before = last;
  }
}

/** The offsets of postings; none if the bytes are not postings. */
export function offsetsIn(bytes: Uint8Array | null | undefined): readonly number[] {
  const bits = new Bits();
  try {
    if (bytes) addPostings(bytes, bits);
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    return [];
  }
  return [...bits.ascending()];
}

function unreadable(): Damaged {
  return new Damaged("the index has postings that nothing writes");
}

function varintBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : 4;
}

/** Writes a number below 2^28; returns where it ends. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let end = at;
  let left = value;
  for (; left >= 0x80; left >>>= 7) bytes[end++] = (left & 0x7f) | 0x80;
  bytes[end++] = left;
  return end;
}

/** Reads numbers that `writeVarint` wrote; behind the end, NaN. */
export class VarintReader {
  readonly #bytes: Uint8Array;
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.at = at;
  }

  get isAtEnd(): boolean {
    return this.at >= this.#bytes.length;
  }

  next(): number {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#bytes[this.at++];
      if (byte === undefined) return Number.NaN;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return Number.NaN;
  }
}
