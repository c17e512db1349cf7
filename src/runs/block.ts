/**
 * A block: some KiB of ascending entries. An entry leaves out the first bytes that its key shares with the key before.
 * Each 16th entry is a restart: it has its whole key, so that a search can begin there. For "ab" = "1" and "abc",
 * deleted:
 *
 *     entries    shared  rest  value   bytes       three varints; value: 0 of a deleted key, else its length + 1
 *                0       2     2       "ab" "1"
 *                2       1     0       "c"
 *     restarts   the places of the restarts, and their number: u32 each, little-endian
 *     checksum   CRC-32 of all bytes before: u32
 */

import { crc32 } from "node:zlib";
import { Damaged } from "../supervisor/derived_parts.ts";

/** The entries from one restart to the next. */
const RESTART_EVERY = 16;
const WORD = 4;
/** The bytes that are reserved for three varints, more than they need. */
const HEAD_BYTES_MAX = 30;

/** A writer of blocks, one after the other. Its memory grows to the largest block. */
export class BlockWriter {
  readonly #restartEvery: number;
  #bytes = Buffer.allocUnsafe(8192);
  #end = 0;
  #restarts: number[] = [];
  #entries = 0;
  #lastKey = new Uint8Array(64);
  #lastKeyBytes = 0;
  /** An entry has been added, to this block or to one before. */
  #isBegun = false;

  /** `restartEvery` 1: every key is whole, as an index of blocks needs it. */
  constructor(restartEvery = RESTART_EVERY) {
    this.#restartEvery = restartEvery;
  }

  /** The bytes of the block's entries so far. */
  get bytes(): number {
    return this.#end;
  }

  /** The key that was added last; a copy. */
  lastKey(): Buffer {
    return Buffer.from(this.#lastKey.subarray(0, this.#lastKeyBytes));
  }

  /**
   * Adds an entry. Throws if its key is not greater than the one before: searches would miss entries. `valueBytes` -1:
   * the key is deleted.
   */
  add(key: Uint8Array, keyBytes: number, value: Uint8Array, valueAt: number, valueBytes: number): void {
    const most = Math.min(keyBytes, this.#lastKeyBytes);
    let same = 0;
    while (same < most && key[same] === this.#lastKey[same]) same++;
    const isGreater = same === most ? keyBytes > most : (key[same] as number) > (this.#lastKey[same] as number);
    if (!isGreater && this.#isBegun) throw new Error("the keys are to ascend");
    this.#isBegun = true;
    const isRestart = this.#entries % this.#restartEvery === 0;
    if (isRestart) this.#restarts.push(this.#end);
    const shared = isRestart ? 0 : same;
    this.#reserve(HEAD_BYTES_MAX + keyBytes + Math.max(valueBytes, 0));
    this.#varint(shared);
    this.#varint(keyBytes - shared);
    this.#varint(valueBytes + 1);
    const bytes = this.#bytes;
    let end = this.#end;
    for (let at = shared; at < keyBytes; at++) bytes[end++] = key[at] as number;
    if (valueBytes > 64) {
      bytes.set(value.subarray(valueAt, valueAt + valueBytes), end);
      end += valueBytes;
    } else for (let at = 0; at < valueBytes; at++) bytes[end++] = value[valueAt + at] as number;
    this.#end = end;
    if (keyBytes > this.#lastKey.length) {
      const larger = new Uint8Array(keyBytes * 2);
      larger.set(this.#lastKey);
      this.#lastKey = larger;
    }
    const last = this.#lastKey;
    for (let at = shared; at < keyBytes; at++) last[at] = key[at] as number;
    this.#lastKeyBytes = keyBytes;
    this.#entries++;
  }

  /** Ends the block and begins the next. The bytes are valid until the next add(). */
  take(): Buffer {
    const words = this.#restarts.length + 2;
    this.#reserve(words * WORD);
    for (const restart of this.#restarts) this.#word(restart);
    this.#word(this.#restarts.length);
    this.#word(crc32(this.#bytes.subarray(0, this.#end)));
    const block = this.#bytes.subarray(0, this.#end);
    this.#end = 0;
    this.#restarts = [];
    this.#entries = 0;
    return block;
  }

  #varint(number: number): void {
    let left = number;
    for (; left > 127; left = Math.floor(left / 128)) this.#bytes[this.#end++] = (left % 128) | 128;
    this.#bytes[this.#end++] = left;
  }

  #word(number: number): void {
    this.#end = this.#bytes.writeUInt32LE(number, this.#end);
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe((this.#end + bytes) * 2);
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
  }
}

/** The bytes of a block, and the places of its entries and restarts. */
export interface Block {
  readonly bytes: Buffer;
  /** Where the entries end. */
  readonly end: number;
  readonly restarts: number;
}

/** Throws Damaged if the bytes are not those that BlockWriter wrote. */
export function readBlock(bytes: Buffer): Block {
  const checksumAt = bytes.length - WORD;
  if (checksumAt < WORD || crc32(bytes.subarray(0, checksumAt)) !== bytes.readUInt32LE(checksumAt))
    throw new Damaged("the checksum of a block is not that of its bytes");
  const restarts = bytes.readUInt32LE(checksumAt - WORD);
  return { bytes, end: checksumAt - WORD - restarts * WORD, restarts };
}

/** A position in entries that ascend, or descend. */
export interface Cursor {
  /** Whether it is at an entry: its key is `keyBytes` bytes of `key`, which change with the next move. */
  readonly isAt: boolean;
  readonly key: Buffer;
  readonly keyBytes: number;
  /** The value is `valueBytes` bytes of `source` from `valueAt` on; -1: the key is deleted. */
  readonly source: Buffer;
  readonly valueAt: number;
  readonly valueBytes: number;
  next(): void;
}

const NO_BLOCK: Block = { bytes: Buffer.alloc(0), end: 0, restarts: 0 };

/** The last restart whose key is less than `key`, or equal to it; 0 if there is none. */
function restartBefore(block: Block, key: Uint8Array, keyBytes: number): number {
  let low = 0;
  let high = block.restarts - 1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    if (compareRestart(block, middle, key, keyBytes) <= 0) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** In a block of whole keys: the first entry whose key is not less than `key`; if there is none, one past the last. */
export function firstFrom(block: Block, key: Uint8Array, keyBytes: number): number {
  let low = 0;
  let high = block.restarts;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compareRestart(block, middle, key, keyBytes) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** In a block of whole keys: the place where the value of an entry begins. */
export function valueAtEntry(block: Block, entry: number): number {
  const head = readHead(block, restartAt(block, entry));
  return head.at + head.rest;
}

/** Compares the key of a restart, which is whole, with another. */
function compareRestart(block: Block, restart: number, key: Uint8Array, keyBytes: number): number {
  const { bytes } = block;
  const { at, rest } = readHead(block, restartAt(block, restart));
  const most = Math.min(rest, keyBytes);
  for (let byte = 0; byte < most; byte++) {
    const difference = (bytes[at + byte] as number) - (key[byte] as number);
    if (difference !== 0) return difference;
  }
  return rest - keyBytes;
}

function restartAt({ bytes, end }: Block, restart: number): number {
  return readWord(bytes, end + restart * WORD);
}

function readWord(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}

/** The result of readHead(): the same object for all calls, because each step of a search makes one. */
const head = { at: 0, shared: 0, rest: 0, value: 0 };

/** The three numbers before an entry's bytes, and where these begin. */
function readHead({ bytes }: Block, from: number): typeof head {
  let at = from;
  let byte = bytes[at++] as number;
  let number = byte & 127;
  for (let scale = 128; byte > 127; scale *= 128) {
    byte = bytes[at++] as number;
    number += (byte & 127) * scale;
  }
  head.shared = number;
  byte = bytes[at++] as number;
  number = byte & 127;
  for (let scale = 128; byte > 127; scale *= 128) {
    byte = bytes[at++] as number;
    number += (byte & 127) * scale;
  }
  head.rest = number;
  byte = bytes[at++] as number;
  number = byte & 127;
  for (let scale = 128; byte > 127; scale *= 128) {
    byte = bytes[at++] as number;
    number += (byte & 127) * scale;
  }
  head.value = number;
  head.at = at;
  return head;
}

/** Walks a block upwards. */
export class BlockCursor implements Cursor {
  #block = NO_BLOCK;
  #next = 0;
  isAt = false;
  key: Buffer = Buffer.allocUnsafe(64);
  keyBytes = 0;
  valueAt = 0;
  valueBytes = 0;

  get source(): Buffer {
    return this.#block.bytes;
  }

  /** Goes to the first entry of a block. */
  begin(block: Block): void {
    this.#block = block;
    this.#next = 0;
    this.next();
  }

  /** Goes to the first entry of a block whose key is not less than `key`. */
  seek(block: Block, key: Uint8Array, keyBytes: number): void {
    this.#block = block;
    this.#next = block.restarts === 0 ? 0 : restartAt(block, restartBefore(block, key, keyBytes));
    do this.next();
    while (this.isAt && compareBytes(this.key, this.keyBytes, key, keyBytes) < 0);
  }

  next(): void {
    if (this.#next >= this.#block.end) {
      this.isAt = false;
      return;
    }
    const { at, shared, rest, value } = readHead(this.#block, this.#next);
    const { bytes } = this.#block;
    const keyBytes = shared + rest;
    if (keyBytes > this.key.length) {
      const larger = Buffer.allocUnsafe(keyBytes * 2);
      larger.set(this.key.subarray(0, shared));
      this.key = larger;
    }
    const { key } = this;
    let from = at;
    for (let to = shared; to < keyBytes; to++) key[to] = bytes[from++] as number;
    this.keyBytes = keyBytes;
    this.valueAt = from;
    this.valueBytes = value - 1;
    this.#next = value === 0 ? from : from + value - 1;
    this.isAt = true;
  }
}

/** Negative, 0 or positive, as for a sort; a key sorts before the keys that it begins. */
export function compareBytes(left: Uint8Array, leftBytes: number, right: Uint8Array, rightBytes: number): number {
  const most = Math.min(leftBytes, rightBytes);
  for (let at = 0; at < most; at++) {
    const difference = (left[at] as number) - (right[at] as number);
    if (difference !== 0) return difference;
  }
  return leftBytes - rightBytes;
}
