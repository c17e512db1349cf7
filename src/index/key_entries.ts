/**
 * Keys of elements, as an index has them: the first 8 bytes of each key of an event, its length, and a hash of its
 * other bytes. So a search finds keys by any beginning, and tells a whole key from others that begin with the same 8
 * bytes.
 *
 * A segment's entries are sorted by their first 8 bytes and cut into blocks, a cell each. The key of a block's cell has
 * the 8 bytes of its first entry and the number of the block, so that one seek finds the blocks for a beginning. An
 * entry is written as
 *
 *     1 byte    how many bytes follow of the upper half (low nibble) and of the lower half (high nibble)
 *     0 to 4    the upper half of the 8 bytes less that of the entry before, least significant byte first
 *     0 to 4    the lower half; less that of the entry before, if the upper half is the same
 *     varint    the length, if the block has several
 *     0 or 2    the hash, if the key is longer than 8 bytes
 *     2         the event's offset in its segment
 *
 * and a block begins with the length that all its keys have, plus one; 0 if it has several.
 */

import { type CellKey, u32Key } from "../maps/cells.ts";
import { Damaged } from "../supervisor/derived_parts.ts";
import type { Bits } from "./bits.ts";
import { VarintReader, writeVarint } from "./postings.ts";

const PREFIX_BYTES = 8;
const LENGTH_MAX = 0xffff;
/** Entries of a block. */
const BLOCK_ENTRIES = 512;
/** The most bytes of an entry, and of a block's beginning. */
const ENTRY_BYTES_MAX = 1 + 4 + 4 + 3 + 2 + 2;
const HEAD_BYTES_MAX = 3;

/** The beginning of keys that a search wants. */
export class KeyWanted {
  readonly #length: number;
  readonly #hash: number;
  /** The least and the greatest first 8 bytes that a key with this beginning can have, in halves. */
  readonly least: readonly [upper: number, lower: number];
  readonly greatest: readonly [upper: number, lower: number];

  constructor(key: Uint8Array) {
    this.#length = Math.min(key.length, LENGTH_MAX);
    this.#hash = hashOf(key, 0, key.length);
    this.least = [half(key, 0, 0), half(key, 4, 0)];
    this.greatest = [half(key, 0, 0xff), half(key, 4, 0xff)];
  }

  /** Whether an entry may be that of a key with this beginning. */
  fits(upper: number, lower: number, length: number, hash: number): boolean {
    const [least, greatest] = [this.least, this.greatest];
    if (upper < least[0] || (upper === least[0] && lower < least[1])) return false;
    if (upper > greatest[0] || (upper === greatest[0] && lower > greatest[1])) return false;
    if (length < this.#length) return false;
    return length > this.#length || length <= PREFIX_BYTES || length === LENGTH_MAX || hash === this.#hash;
  }
}

/** Four bytes of a key, most significant first. `beyond` stands in place of bytes that the key does not have. */
function half(key: Uint8Array, from: number, beyond: number): number {
  const [a = beyond, b = beyond, c = beyond, d = beyond] = key.subarray(from, from + 4);
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}

/** The hash of the bytes after the first 8: FNV-1a, in 16 bits. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let at = start + PREFIX_BYTES; at < end; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193);
  return (hash ^ (hash >>> 16)) & 0xffff;
}

/** The entries that there is room for at first: as many as most segments have. */
const ROOM = 65_536;
/** Up to this many entries, an insertion sort is faster than a radix sort. */
const NEAR = 24;
/** If a larger part of the entries is crowded() in their first two bytes, all entries are radix sorted. */
const CROWDED = 0.25;
const DIGITS = 0x1_0000;

/** The entries of a segment that is being made. */
export class KeyEntries {
  #uppers = new Uint32Array(ROOM);
  #lowers = new Uint32Array(ROOM);
  #lengths = new Uint16Array(ROOM);
  #hashes = new Uint16Array(ROOM);
  #offsets = new Uint16Array(ROOM);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Adds the key in `bytes` from `start` to `end`, of the event at `offset`. */
  add(bytes: Uint8Array, start: number, end: number, offset: number): void {
    if (this.#count === this.#offsets.length) this.#grow();
    const at = this.#count++;
    const length = end - start;
    if (length >= PREFIX_BYTES) {
      this.#uppers[at] = u32At(bytes, start);
      this.#lowers[at] = u32At(bytes, start + 4);
      this.#hashes[at] = length > PREFIX_BYTES ? hashOf(bytes, start, end) : 0;
    } else {
      const key = bytes.subarray(start, end);
      this.#uppers[at] = half(key, 0, 0);
      this.#lowers[at] = half(key, 4, 0);
      this.#hashes[at] = 0;
    }
    this.#lengths[at] = Math.min(length, LENGTH_MAX);
    this.#offsets[at] = offset;
  }

  /** Adds the events that may have a key with a beginning. */
  addFound(wanted: KeyWanted, bits: Bits): void {
    for (let at = 0; at < this.#count; at++)
      if (
        wanted.fits(
          this.#uppers[at] as number,
          this.#lowers[at] as number,
          this.#lengths[at] as number,
          this.#hashes[at] as number,
        )
      )
        bits.add(this.#offsets[at] as number);
  }

  /** The blocks of all entries: the end of each cell's key, and its bytes. */
  *blocks(): Iterable<readonly [CellKey, Buffer]> {
    const order = this.#sorted();
    for (let from = 0; from < order.length; from += BLOCK_ENTRIES)
      yield this.#block(order.subarray(from, from + BLOCK_ENTRIES), from / BLOCK_ENTRIES);
  }

  #block(order: Uint32Array, number: number): readonly [CellKey, Buffer] {
    const first = order[0] as number;
    const length = this.#lengths[first] as number;
    const isUniform = order.every((at) => this.#lengths[at] === length);
    const bytes = Buffer.allocUnsafe(HEAD_BYTES_MAX + order.length * ENTRY_BYTES_MAX);
    let end = writeVarint(bytes, 0, isUniform ? length + 1 : 0);
    let upper = this.#uppers[first] as number;
    let lower = this.#lowers[first] as number;
    const key = u32Key(upper) + u32Key(lower) + u32Key(number);
    for (const at of order) {
      const [nextUpper, nextLower] = [this.#uppers[at] as number, this.#lowers[at] as number];
      const tagAt = end++;
      const up = end;
      end = writeBytes(bytes, end, nextUpper - upper);
      const low = end;
      end = writeBytes(bytes, end, nextUpper === upper ? nextLower - lower : nextLower);
      bytes[tagAt] = (low - up) | ((end - low) << 4);
      const entryLength = this.#lengths[at] as number;
      if (!isUniform) end = writeVarint(bytes, end, entryLength);
      if (entryLength > PREFIX_BYTES) end = writeU16(bytes, end, this.#hashes[at] as number);
      end = writeU16(bytes, end, this.#offsets[at] as number);
      upper = nextUpper;
      lower = nextLower;
    }
    return [key, Buffer.from(bytes.subarray(0, end))];
  }

  /** The entries sorted by their first 8 bytes. Equal ones keep the order of their events, in which they were added. */
  #sorted(): Uint32Array {
    const order = new Uint32Array(this.#count);
    for (let at = 0; at < order.length; at++) order[at] = at;
    const other = new Uint32Array(this.#count);
    const starts = startsOf(this.#uppers, 16, this.#count);
    if (crowded(starts) > this.#count * CROWDED) {
      // Four passes of a radix sort: the last one ends in `order`.
      for (const halves of [this.#lowers, this.#uppers]) {
        distribute(order, other, halves, 0, startsOf(halves, 0, this.#count));
        distribute(other, order, halves, 16, startsOf(halves, 16, this.#count));
      }
      return order;
    }
    // Most keys differ in their first two bytes: after one pass, entries are near their places.
    distribute(order, other, this.#uppers, 16, starts.slice());
    for (let digit = 0; digit < DIGITS; digit++) {
      const [start, end] = [starts[digit] as number, starts[digit + 1] as number];
      if (end - start > NEAR) other.subarray(start, end).sort((one, two) => this.#compare(one, two));
    }
    this.#insertInOrder(other);
    return other;
  }

  /** An insertion sort, for entries that are near their places. */
  #insertInOrder(order: Uint32Array): void {
    for (let end = 1; end < order.length; end++) {
      const at = order[end] as number;
      let place = end;
      for (; place > 0 && this.#compare(at, order[place - 1] as number) < 0; place--)
        order[place] = order[place - 1] as number;
      order[place] = at;
    }
  }

  #compare(one: number, other: number): number {
    const upper = (this.#uppers[one] as number) - (this.#uppers[other] as number);
    return upper !== 0 ? upper : (this.#lowers[one] as number) - (this.#lowers[other] as number);
  }

  #grow(): void {
    this.#uppers = grown(this.#uppers, Uint32Array);
    this.#lowers = grown(this.#lowers, Uint32Array);
    this.#lengths = grown(this.#lengths, Uint16Array);
    this.#hashes = grown(this.#hashes, Uint16Array);
    this.#offsets = grown(this.#offsets, Uint16Array);
  }
}

/** The places where the entries of each digit (16 bits of a number) begin if they are sorted; the last is the end. */
function startsOf(numbers: Uint32Array, shift: number, count: number): Uint32Array {
  const starts = new Uint32Array(DIGITS + 1);
  for (let at = 0; at < count; at++) {
    const next = (((numbers[at] as number) >>> shift) & 0xffff) + 1;
    starts[next] = (starts[next] as number) + 1;
  }
  for (let digit = 1; digit <= DIGITS; digit++)
    starts[digit] = (starts[digit] as number) + (starts[digit - 1] as number);
  return starts;
}

/** The number of entries with a digit that more than NEAR entries have. */
function crowded(starts: Uint32Array): number {
  let entries = 0;
  for (let digit = 0; digit < DIGITS; digit++) {
    const size = (starts[digit + 1] as number) - (starts[digit] as number);
    if (size > NEAR) entries += size;
  }
  return entries;
}

/** One pass of a radix sort. `places`: from `startsOf`; the pass changes them. */
function distribute(
  from: Uint32Array,
  to: Uint32Array,
  numbers: Uint32Array,
  shift: number,
  places: Uint32Array,
): void {
  for (const at of from) {
    const digit = ((numbers[at] as number) >>> shift) & 0xffff;
    const place = places[digit] as number;
    to[place] = at;
    places[digit] = place + 1;
  }
}

function grown<Numbers extends Uint16Array | Uint32Array>(from: Numbers, Made: new (room: number) => Numbers): Numbers {
  const made = new Made(2 * from.length);
  made.set(from);
  return made;
}

function u32At(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

/** Writes a number in as many bytes as it needs, none for 0. Returns their end. */
function writeBytes(bytes: Uint8Array, at: number, value: number): number {
  let end = at;
  for (let left = value; left !== 0; left >>>= 8) bytes[end++] = left & 0xff;
  return end;
}

function writeU16(bytes: Uint8Array, at: number, value: number): number {
  bytes[at] = value & 0xff;
  bytes[at + 1] = value >>> 8;
  return at + 2;
}

/** The part of a block's key that has the first 8 bytes of its first entry. */
export function blockStart([upper, lower]: readonly [upper: number, lower: number]): CellKey {
  return u32Key(upper) + u32Key(lower);
}

/**
 * Adds the events of a block that may have a key with a beginning. `start`: the first 8 bytes of the block's first
 * entry, in halves, as the block's key has them. Throws Damaged for bytes that `blocks` does not yield.
 */
export function addFromBlock(
  start: readonly [upper: number, lower: number],
  bytes: Uint8Array,
  wanted: KeyWanted,
  bits: Bits,
): void {
  const reader = new VarintReader(bytes, 0);
  const uniform = reader.next();
  let [upper, lower] = start;
  let at = reader.at;
  while (at < bytes.length) {
    const tag = bytes[at++] as number;
    const [ups, lows] = [tag & 15, tag >>> 4];
    if (ups > 4 || lows > 4) throw unreadable();
    if (ups > 0) upper = (upper + readBytes(bytes, at, ups)) >>> 0;
    at += ups;
    lower = (readBytes(bytes, at, lows) + (ups > 0 ? 0 : lower)) >>> 0;
    at += lows;
    let length = uniform - 1;
    if (uniform === 0) {
      reader.at = at;
      length = reader.next();
      at = reader.at;
    }
    let hash = 0;
    if (length > PREFIX_BYTES) {
      hash = readBytes(bytes, at, 2);
      at += 2;
    }
    if (at + 2 > bytes.length || Number.isNaN(length)) throw unreadable();
    if (wanted.fits(upper, lower, length, hash)) bits.add(readBytes(bytes, at, 2));
    at += 2;
  }
}

function readBytes(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let byte = count - 1; byte >= 0; byte--) value = (value << 8) | (bytes[at + byte] ?? 0);
  return value >>> 0;
}

function unreadable(): Damaged {
  return new Damaged("the index has keys that nothing writes");
}
