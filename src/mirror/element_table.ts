/**
 * All elements of a map in typed arrays, to be found by key. An object, a string and two buffers for each would take 600 bytes an
 * element, and a start that compares a map of five millions would end for want of memory.
 *
 *     slots      1 + an element's index, or 0: empty; at the key's hash modulo their number, or in the next empty slot
 *     bytes      the elements' keys and values, end to end
 *     met        1: the element is marked
 */

import { randomBytes } from "node:crypto";
import type { Element } from "../maps/map.ts";

/** The elements and bytes of a new table: a power of two, for the slots. */
const ELEMENTS_FIRST = 1024;
const BYTES_FIRST = 1024 * 1024;
/** Slots for each element. */
const SLOTS = 2;
/** Random in each process, so that keys that collide cannot be chosen before it starts. */
const SEED = randomBytes(4).readInt32LE(0);

export interface ElementSizes {
  readonly keyBytes: number;
  readonly valueBytes: number;
}

/** Elements by key. Keys with equal significant bits are the same. */
export class ElementTable {
  readonly valueBytes: number;
  readonly #keyBytes: number;
  readonly #significantBits: (key: Buffer, at: number) => number;
  #size = 0;
  #slots: Uint32Array;
  #bytes: Buffer;
  #met: Uint8Array;

  /** `significantBits`: the number of bits at the beginning of the key at this place that distinguish it from others. */
  constructor({ keyBytes, valueBytes }: ElementSizes, significantBits: (key: Buffer, at: number) => number) {
    this.#keyBytes = keyBytes;
    this.valueBytes = valueBytes;
    this.#significantBits = significantBits;
    let first = ELEMENTS_FIRST;
    while (first > 1 && first * this.#stride > BYTES_FIRST) first /= 2;
    this.#bytes = Buffer.allocUnsafe(first * this.#stride);
    this.#met = new Uint8Array(first);
    this.#slots = new Uint32Array(first * SLOTS);
  }

  /** Adds an element; one with the same key is replaced. Throws RangeError if the sizes are not the table's. */
  add({ key, value }: Element): void {
    if (key.length !== this.#keyBytes || value.length !== this.valueBytes)
      throw new RangeError(
        `an element of ${key.length} and ${value.length} bytes in a table of ${this.#keyBytes} and ${this.valueBytes}`,
      );
    if (this.#size === this.#met.length) this.#grow();
    const slot = this.#slotOf(key, 0);
    const found = (this.#slots[slot] as number) - 1;
    const index = found < 0 ? this.#size++ : found;
    this.#slots[slot] = index + 1;
    const at = index * this.#stride;
    this.#bytes.set(key, at);
    this.#bytes.set(value, at + this.#keyBytes);
  }

  /** The index of the element with a key; -1: there is none. `key` has the key at `at`. */
  find(key: Buffer, at = 0): number {
    return (this.#slots[this.#slotOf(key, at)] as number) - 1;
  }

  /** The key of the element with this index: a view, valid until an element is added. */
  key(index: number): Buffer {
    const at = index * this.#stride;
    return this.#bytes.subarray(at, at + this.#keyBytes);
  }

  /** As key(). */
  value(index: number): Buffer {
    const at = index * this.#stride + this.#keyBytes;
    return this.#bytes.subarray(at, at + this.valueBytes);
  }

  /** Whether the element has exactly this key and value, which lie at `keyAt` and `valueAt`. */
  is(index: number, key: Buffer, keyAt: number, value: Buffer, valueAt: number): boolean {
    const at = index * this.#stride;
    return (
      isAt(this.#bytes, at, key, keyAt, this.#keyBytes) &&
      isAt(this.#bytes, at + this.#keyBytes, value, valueAt, this.valueBytes)
    );
  }

  mark(index: number): void {
    this.#met[index] = 1;
  }

  /** The indexes of elements that are not marked, in the order in which they were added. */
  *unmarked(): Iterable<number> {
    for (let index = 0; index < this.#size; index++) if (this.#met[index] === 0) yield index;
  }

  get #stride(): number {
    return this.#keyBytes + this.valueBytes;
  }

  /** The slot of the element with a key, or the empty one in which it would be. */
  #slotOf(key: Buffer, at: number): number {
    const bits = this.#significantBits(key, at);
    const mask = this.#slots.length - 1;
    let slot = this.#hash(key, at, bits) & mask;
    for (let entry = this.#slots[slot] as number; entry !== 0; entry = this.#slots[slot] as number) {
      if (this.#isSame((entry - 1) * this.#stride, key, at, bits)) break;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #hash(key: Buffer, at: number, bits: number): number {
    const whole = bits >> 3;
    let hash = SEED;
    for (let byte = 0; byte < whole; byte++) hash = Math.imul(hash ^ (key[at + byte] as number), 0x01000193);
    if ((bits & 7) !== 0) hash = Math.imul(hash ^ lastOf(key, at + whole, bits), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) >>> 0;
  }

  #isSame(own: number, key: Buffer, at: number, bits: number): boolean {
    if (this.#significantBits(this.#bytes, own) !== bits) return false;
    const whole = bits >> 3;
    if (!isAt(this.#bytes, own, key, at, whole)) return false;
    return (bits & 7) === 0 || lastOf(this.#bytes, own + whole, bits) === lastOf(key, at + whole, bits);
  }

  #grow(): void {
    const count = 2 * this.#met.length;
    const bytes = Buffer.allocUnsafe(count * this.#stride);
    this.#bytes.copy(bytes);
    this.#bytes = bytes;
    const met = new Uint8Array(count);
    met.set(this.#met);
    this.#met = met;
    this.#slots = new Uint32Array(count * SLOTS);
    for (let index = 0; index < this.#size; index++)
      this.#slots[this.#slotOf(this.#bytes, index * this.#stride)] = index + 1;
  }
}

/** The significant bits of a byte of which not all are. */
function lastOf(key: Buffer, at: number, bits: number): number {
  return (key[at] as number) & (0xff00 >> (bits & 7)) & 0xff;
}

/** Up to this length, comparing in a loop is faster than a call of Buffer.compare(). */
const LOOP_BYTES = 64;

function isAt(one: Buffer, oneAt: number, other: Buffer, otherAt: number, length: number): boolean {
  if (length > LOOP_BYTES) return one.compare(other, otherAt, otherAt + length, oneAt, oneAt + length) === 0;
  for (let byte = 0; byte < length; byte++) if (one[oneAt + byte] !== other[otherAt + byte]) return false;
  return true;
}
