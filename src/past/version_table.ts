/**
 * Versions that are not in the store yet, as bytes one after the other in few buffers: a Map of strings took more time
 * to fill and to sort than redoing the events took.
 */

import {
  type CellMemory,
  type Change,
  KEY_AT,
  KEY_BYTES,
  SortedCells,
  VALUE_AT,
  VALUE_BYTES,
  WIDTH,
} from "../engine/sorted_cells.ts";
import type { CellKey } from "../maps/cells.ts";
import { END, GONE_BYTE, groupOf, HELD_BYTE, SEQ_BYTES } from "./versions.ts";

const ENTRIES_MIN = 1024;
const BYTES_MIN = 64 * 1024;
const ROOM = 2;

export class VersionTable {
  #size = 0;
  #entries = new Uint32Array(ENTRIES_MIN * WIDTH);
  #keys = new Uint8Array(BYTES_MIN);
  #keysEnd = 0;
  #values = new Uint8Array(BYTES_MIN);
  #valuesEnd = 0;

  get size(): number {
    return this.#size;
  }

  /** Of keys and values. */
  get bytes(): number {
    return this.#keysEnd + this.#valuesEnd;
  }

  get memory(): CellMemory {
    return { size: this.#size, entries: this.#entries, keys: this.#keys, values: this.#values };
  }

  /** In the order of the keys. */
  [Symbol.iterator](): Iterator<readonly [key: CellKey, change: Change]> {
    return new SortedCells(this.memory).entries();
  }

  /** Adds a version under the key that versionKey() makes. `bytes` null: the cell is deleted. */
  addVersion(cell: CellKey, image: number, seq: number, bytes: Buffer | null): void {
    const groupBytes = groupOf(cell).length;
    // Each byte of the cell's key may be a zero, which is escaped as two bytes.
    this.#begin(cell.length * 2 + END.length + 2 * SEQ_BYTES + 1, bytes);
    for (let at = 0; at < groupBytes; at++) this.#keys[this.#keysEnd++] = cell.charCodeAt(at);
    this.#addInverted(image);
    for (let at = groupBytes; at < cell.length; at++) {
      const byte = cell.charCodeAt(at);
      this.#keys[this.#keysEnd++] = byte;
      if (byte === 0) this.#keys[this.#keysEnd++] = 0xff;
    }
    for (let at = 0; at < END.length; at++) this.#keys[this.#keysEnd++] = END.charCodeAt(at);
    this.#addInverted(seq);
    this.#keys[this.#keysEnd++] = bytes === null ? GONE_BYTE : HELD_BYTE;
    this.#end();
  }

  /** Adds a cell of the store that is no version. */
  addCell(key: CellKey, bytes: Buffer): void {
    this.#begin(key.length, bytes);
    for (let at = 0; at < key.length; at++) this.#keys[this.#keysEnd++] = key.charCodeAt(at);
    this.#end();
  }

  /** Removes the entries that were added last. */
  removeLast(count: number): void {
    if (count === 0) return;
    this.#size -= count;
    this.#keysEnd = this.#entries[this.#size * WIDTH + KEY_AT] as number;
    this.#valuesEnd = this.#entries[this.#size * WIDTH + VALUE_AT] as number;
  }

  /** Makes room for a key, and begins an entry with its value. */
  #begin(keyBytesMax: number, bytes: Buffer | null): void {
    if ((this.#size + 1) * WIDTH > this.#entries.length) {
      const entries = new Uint32Array(this.#entries.length * ROOM);
      entries.set(this.#entries);
      this.#entries = entries;
    }
    this.#keys = withRoom(this.#keys, this.#keysEnd, keyBytesMax);
    const valueBytes = bytes?.length ?? 0;
    this.#values = withRoom(this.#values, this.#valuesEnd, valueBytes);
    const at = this.#size * WIDTH;
    this.#entries[at + KEY_AT] = this.#keysEnd;
    this.#entries[at + VALUE_AT] = this.#valuesEnd;
    this.#entries[at + VALUE_BYTES] = valueBytes;
    if (bytes !== null) this.#values.set(bytes, this.#valuesEnd);
    this.#valuesEnd += valueBytes;
  }

  #end(): void {
    const at = this.#size++ * WIDTH;
    this.#entries[at + KEY_BYTES] = this.#keysEnd - (this.#entries[at + KEY_AT] as number);
  }

  /** As inverted() of versions.ts. */
  #addInverted(seq: number): void {
    const left = Number.MAX_SAFE_INTEGER - seq;
    const high = Math.floor(left / 2 ** 32);
    const low = left % 2 ** 32;
    const keys = this.#keys;
    let end = this.#keysEnd;
    for (const shift of [16, 8, 0]) keys[end++] = (high >>> shift) & 255;
    for (const shift of [24, 16, 8, 0]) keys[end++] = (low >>> shift) & 255;
    this.#keysEnd = end;
  }
}

function withRoom(bytes: Uint8Array<ArrayBuffer>, end: number, more: number): Uint8Array<ArrayBuffer> {
  if (end + more <= bytes.length) return bytes;
  const larger = new Uint8Array((end + more) * ROOM);
  larger.set(bytes.subarray(0, end));
  return larger;
}
