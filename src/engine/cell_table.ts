/**
 * A hash table of changed cells in typed arrays. A Map of strings and Buffers follows pointers over all of the heap:
 * with 200,000 cells its lookups missed the caches so often that they took a third of a replay's time. Entries, keys
 * and values are in shared memory, so that the state writer's thread can read the cells (`sorted_cells.ts`).
 *
 *     slots      1 + an entry's index, or 0: empty; at the key's hash modulo their number, or in the next empty slot
 *     entries    5 words each: the key's hash, place and length, the value's place and length; without gaps
 *     keys       the keys' bytes, end to end
 *     values     the values' bytes, end to end
 *
 * For example, with 128 slots, and keys "a" and "bc" whose hashes are 0x105 and 0x205:
 *
 *     set("a", 01 02)    slots 5: 1          entries 0x105 0 1 0 2
 *     set("bc", 03)      slots 5: 1, 6: 2    entries 0x105 0 1 0 2, 0x205 1 2 2 1    slot 5 is taken
 *     set("a", 04)       slots 5: 1, 6: 2    entries 0x105 0 1 3 1, 0x205 1 2 2 1    values 01 02 03 04
 *     delete("a")        slots 5: 1          entries 0x205 1 2 2 1                   keys "abc"
 *
 * A new value is appended instead of written over the old one, because callers have views of the old one. Bytes that
 * are no longer used stay until the buffer is full: then all used bytes move to a new buffer. The last entry takes the
 * place of a deleted one.
 */

import { randomBytes } from "node:crypto";
import type { CellKey } from "../maps/cells.ts";
import {
  type CellMemory,
  type Change,
  GONE,
  HASH,
  KEY_AT,
  KEY_BYTES,
  SortedCells,
  VALUE_AT,
  VALUE_BYTES,
  WIDTH,
} from "./sorted_cells.ts";

const ENTRIES_MIN = 64;
const BYTES_MIN = 4096;
/** The size of a new buffer, in multiples of the bytes that are used. */
const ROOM = 3;
/** Places of keys and values are 32 bits wide. */
const BYTES_MAX = 2 ** 32;
/** Up to this length, copying in a loop is faster than a call of Buffer.copy(). */
const LOOP_BYTES = 128;
/** Slots for each entry. */
const SLOTS = 2;
/** Random in each process, so that nobody can choose keys that collide. */
const SEED = randomBytes(4).readInt32LE(0);

/** Changed cells by key, as in a Map; null: the cell is deleted. The head of the file has an example. */
export class CellTable {
  #size = 0;
  #slots = new Uint32Array(ENTRIES_MIN * SLOTS);
  #entries = sharedWords(ENTRIES_MIN * WIDTH);
  #keys = sharedBytes(BYTES_MIN);
  #keysEnd = 0;
  #keysUsed = 0;
  #values = sharedBytes(BYTES_MIN);
  #valuesEnd = 0;
  #valuesUsed = 0;
  /**
   * The key that was looked for last, with its hash, slot and entry, because most cells are read before a change. null:
   * none, or they have changed.
   */
  #askedKey: CellKey | null = null;
  #hash = 0;
  #slot = 0;
  #entry = -1;

  get size(): number {
    return this.#size;
  }

  /** The bytes of all keys and values. */
  get bytes(): number {
    return this.#keysUsed + this.#valuesUsed;
  }

  get(key: CellKey): Change | undefined {
    this.#find(key);
    return this.#entry < 0 ? undefined : this.#change(this.#entry);
  }

  /** The hash that an entry with this key has. */
  hashOf(key: CellKey): number {
    this.#find(key);
    return this.#hash;
  }

  set(key: CellKey, change: Change): void {
    this.#find(key);
    if (this.#entry < 0) this.#add(key);
    else this.#valuesUsed -= valueBytes(this.#entries, this.#entry);
    const at = this.#entry * WIDTH;
    this.#entries[at + VALUE_BYTES] = GONE;
    if (change === null) return;
    if (this.#valuesEnd + change.length > this.#values.length) this.#moveValues(change.length);
    copy(change, 0, change.length, this.#values, this.#valuesEnd);
    this.#entries[at + VALUE_AT] = this.#valuesEnd;
    this.#entries[at + VALUE_BYTES] = change.length;
    this.#valuesEnd += change.length;
    this.#valuesUsed += change.length;
  }

  /** The entry of a key; -1: there is none. */
  entryOf(key: CellKey): number {
    this.#find(key);
    return this.#entry;
  }

  /** The last entry takes the place of the key's. */
  delete(key: CellKey): void {
    this.#find(key);
    const entry = this.#entry;
    if (entry < 0) return;
    this.#empty(this.#slot);
    this.#keysUsed -= this.#entries[entry * WIDTH + KEY_BYTES] as number;
    this.#valuesUsed -= valueBytes(this.#entries, entry);
    const last = --this.#size;
    if (entry !== last) {
      this.#slots[this.#slotOf(last)] = entry + 1;
      this.#entries.copyWithin(entry * WIDTH, last * WIDTH, (last + 1) * WIDTH);
    }
    this.#askedKey = null;
    this.#entry = -1;
  }

  /** The table's memory, for readers in this thread and in others. It is valid until the table changes. */
  get memory(): CellMemory {
    return { size: this.#size, entries: this.#entries, keys: this.#keys, values: this.#values };
  }

  /** Ascending by key. The table must not change during the walk. */
  [Symbol.iterator](): Iterator<readonly [key: CellKey, change: Change]> {
    return new SortedCells(this.memory).entries();
  }

  /** Sets #hash, #slot and #entry. If the key is absent, #entry is -1, and #slot is where its entry would go. */
  #find(key: CellKey): void {
    if (key === this.#askedKey) return;
    let hash = SEED;
    for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    hash = (hash ^ (hash >>> 13)) >>> 0;
    const slots = this.#slots;
    const mask = slots.length - 1;
    let slot = hash & mask;
    let entry = (slots[slot] as number) - 1;
    while (entry >= 0 && !this.#is(entry, hash, key)) {
      slot = (slot + 1) & mask;
      entry = (slots[slot] as number) - 1;
    }
    this.#askedKey = key;
    this.#hash = hash;
    this.#slot = slot;
    this.#entry = entry;
  }

  #is(entry: number, hash: number, key: CellKey): boolean {
    const entries = this.#entries;
    const at = entry * WIDTH;
    if (entries[at + HASH] !== hash || entries[at + KEY_BYTES] !== key.length) return false;
    const keys = this.#keys;
    const start = entries[at + KEY_AT] as number;
    for (let byte = 0; byte < key.length; byte++) if (keys[start + byte] !== key.charCodeAt(byte)) return false;
    return true;
  }

  /** Adds an entry for the key that #find() did not find. */
  #add(key: CellKey): void {
    if ((this.#size + 1) * WIDTH > this.#entries.length) this.#grow();
    if (this.#keysEnd + key.length > this.#keys.length) this.#moveKeys(key.length);
    const entry = this.#size++;
    const at = entry * WIDTH;
    this.#entries[at + HASH] = this.#hash;
    this.#entries[at + KEY_AT] = this.#keysEnd;
    this.#entries[at + KEY_BYTES] = key.length;
    for (let byte = 0; byte < key.length; byte++) this.#keys[this.#keysEnd + byte] = key.charCodeAt(byte);
    this.#keysEnd += key.length;
    this.#keysUsed += key.length;
    this.#slots[this.#slot] = entry + 1;
    this.#entry = entry;
  }

  #grow(): void {
    const entries = sharedWords(this.#entries.length * 2);
    entries.set(this.#entries);
    this.#entries = entries;
    this.#slots = new Uint32Array(this.#slots.length * 2);
    for (let entry = 0; entry < this.#size; entry++) this.#slots[this.#slotOf(-1, hashOf(entries, entry))] = entry + 1;
    this.#slot = this.#slotOf(-1, this.#hash);
  }

  /** The slot of an entry; of -1: the first empty slot for the hash. */
  #slotOf(entry: number, hash = hashOf(this.#entries, entry)): number {
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    while (this.#slots[slot] !== entry + 1) slot = (slot + 1) & mask;
    return slot;
  }

  /**
   * Empties a slot. Entries in the slots behind it move forward, each at most to the slot of its hash, so that no
   * search ends at the gap.
   */
  #empty(slot: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let hole = slot;
    for (let next = (hole + 1) & mask; slots[next] !== 0; next = (next + 1) & mask) {
      const home = hashOf(this.#entries, (slots[next] as number) - 1) & mask;
      if (((next - home) & mask) < ((next - hole) & mask)) continue;
      slots[hole] = slots[next] as number;
      hole = next;
    }
    slots[hole] = 0;
  }

  #moveKeys(more: number): void {
    const from = this.#keys;
    const isWhole = this.#keysUsed === this.#keysEnd;
    this.#keys = roomFor(this.#keysUsed + more);
    this.#keysEnd = isWhole
      ? from.copy(this.#keys, 0, 0, this.#keysEnd)
      : this.#move(from, this.#keys, KEY_AT, KEY_BYTES);
  }

  #moveValues(more: number): void {
    const from = this.#values;
    const isWhole = this.#valuesUsed === this.#valuesEnd;
    this.#values = roomFor(this.#valuesUsed + more);
    this.#valuesEnd = isWhole
      ? from.copy(this.#values, 0, 0, this.#valuesEnd)
      : this.#move(from, this.#values, VALUE_AT, VALUE_BYTES);
  }

  /** Copies the used bytes of a column. Returns the end of the copy. */
  #move(from: Buffer, to: Buffer, atColumn: number, bytesColumn: number): number {
    const entries = this.#entries;
    let end = 0;
    for (let at = 0; at < this.#size * WIDTH; at += WIDTH) {
      const bytes = entries[at + bytesColumn] as number;
      if (bytes === GONE) continue;
      const start = entries[at + atColumn] as number;
      copy(from, start, start + bytes, to, end);
      entries[at + atColumn] = end;
      end += bytes;
    }
    return end;
  }

  #change(entry: number): Change {
    const at = entry * WIDTH;
    const bytes = this.#entries[at + VALUE_BYTES] as number;
    if (bytes === GONE) return null;
    const start = this.#entries[at + VALUE_AT] as number;
    return this.#values.subarray(start, start + bytes);
  }
}

function hashOf(entries: Uint32Array, entry: number): number {
  return entries[entry * WIDTH + HASH] as number;
}

function valueBytes(entries: Uint32Array, entry: number): number {
  const bytes = entries[entry * WIDTH + VALUE_BYTES] as number;
  return bytes === GONE ? 0 : bytes;
}

function roomFor(used: number): Buffer<SharedArrayBuffer> {
  if (used > BYTES_MAX) throw new RangeError(`changed cells take ${used} bytes, more than the limit of ${BYTES_MAX}`);
  return sharedBytes(Math.min(BYTES_MAX, Math.max(BYTES_MIN, used * ROOM)));
}

function sharedBytes(bytes: number): Buffer<SharedArrayBuffer> {
  return Buffer.from(new SharedArrayBuffer(bytes));
}

function sharedWords(words: number): Uint32Array<SharedArrayBuffer> {
  return new Uint32Array(new SharedArrayBuffer(words * Uint32Array.BYTES_PER_ELEMENT));
}

function copy(from: Buffer, start: number, end: number, to: Buffer, at: number): void {
  if (end - start > LOOP_BYTES) from.copy(to, at, start, end);
  else for (let byte = start; byte < end; byte++) to[at - start + byte] = from[byte] as number;
}
