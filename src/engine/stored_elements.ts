/**
 * A Bloom filter of the elements that the store may have. An update looks for its element first, and if LMDB does not
 * have it, that costs 1 to 2 us: half of the engine's time for an element that is new. The filter knows the elements of
 * all maps that were created since the start: the ids of maps ascend, and every write to the store passes here. For
 * example, if the last map was 7 at the start:
 *
 *                        element of map 7    elements of map 8
 *     add(8's k1)        may be stored       k1 may be stored, k2 is not
 *     add(8's k2)        may be stored       k1 and k2 may be stored
 *
 * A deleted element may be stored all the same. The filter has segments, each four times as large as the one before it,
 * since a filter that is full cannot grow. An element sets 4 bits in one block of 64 bytes, so that a question costs
 * one miss of the caches for each segment. 5 million elements take 10.5 MiB.
 */

import { type CellKey, readU32Key } from "../maps/cells.ts";
import { ELEMENT_TABLE } from "../maps/common.ts";
import { type CellMemory, GONE, HASH, KEY_AT, VALUE_BYTES, WIDTH } from "./sorted_cells.ts";

const FIRST_ELEMENTS = 2 ** 18;
const TIMES = 4;
/** 2^18, 2^20, 2^22 and 2^24 elements: 42.5 MiB. Beyond that, all elements may be stored. */
const SEGMENTS_MAX = 4;

const BLOCK_WORDS = 16;
/** With 16 bits of a block for each element, the filter takes 1 in 200 elements that are not stored for stored ones. */
const ELEMENTS_A_BLOCK = 32;
/** The 9 highest bits of a product are a bit's place in its block. */
const FACTORS = [0x9e3779b1, 0x85ebca77, 0xc2b2ae3d, 0x27d4eb2f] as const;
const PLACE_SHIFT = 23;

const ELEMENT = ELEMENT_TABLE.charCodeAt(0);
const MAP_AT = 1;

interface Segment {
  readonly words: Uint32Array;
  /** Of a hash: the bits that remain are the block's number. */
  readonly shift: number;
  /** The number of elements that it has room for. */
  left: number;
}

export class StoredElements {
  readonly #segments: Segment[] = [];
  /** For tests. */
  segmentsMax = SEGMENTS_MAX;
  /** The elements of maps with higher ids are known. */
  #lastUnknown: number;

  /** `isEmpty`: the store has no cells. Otherwise it has elements of all maps, until `beginsAfter` is called. */
  constructor(isEmpty: boolean) {
    this.#lastUnknown = isEmpty ? 0 : Number.POSITIVE_INFINITY;
  }

  /** There is no map with a higher id yet, and the store has no cells of one. */
  beginsAfter(lastMap: number): void {
    this.#lastUnknown = Math.min(this.#lastUnknown, lastMap);
  }

  /** Whether the store may have this cell. `hash`: as in the tables that were added. */
  mayHave(key: CellKey, hash: number): boolean {
    if (key.charCodeAt(0) !== ELEMENT || !(readU32Key(key, MAP_AT) > this.#lastUnknown)) return true;
    return this.#has(hash);
  }

  /** These cells will be written to the store, also if the write then fails. */
  add({ size, entries, keys }: CellMemory): void {
    for (let at = 0; at < size * WIDTH; at += WIDTH) {
      if (entries[at + VALUE_BYTES] === GONE || keys[entries[at + KEY_AT] as number] !== ELEMENT) continue;
      const hash = entries[at + HASH] as number;
      if (!this.#has(hash) && !this.#put(hash)) {
        this.#lastUnknown = Number.POSITIVE_INFINITY;
        return;
      }
    }
  }

  #has(hash: number): boolean {
    for (const { words, shift } of this.#segments) {
      const block = (hash >>> shift) * BLOCK_WORDS;
      let all = 1;
      for (const factor of FACTORS) {
        const place = Math.imul(hash, factor) >>> PLACE_SHIFT;
        all &= (words[block + (place >>> 5)] as number) >>> (place & 31);
      }
      if ((all & 1) === 1) return true;
    }
    return false;
  }

  /** Returns false if there is no more room. */
  #put(hash: number): boolean {
    const segment = this.#withRoom();
    if (segment === null) return false;
    const { words, shift } = segment;
    const block = (hash >>> shift) * BLOCK_WORDS;
    for (const factor of FACTORS) {
      const place = Math.imul(hash, factor) >>> PLACE_SHIFT;
      words[block + (place >>> 5)] = (words[block + (place >>> 5)] as number) | (1 << (place & 31));
    }
    segment.left--;
    return true;
  }

  #withRoom(): Segment | null {
    const last = this.#segments.at(-1);
    if (last !== undefined && last.left > 0) return last;
    if (this.#segments.length === this.segmentsMax) return null;
    const elements = FIRST_ELEMENTS * TIMES ** this.#segments.length;
    const blocks = elements / ELEMENTS_A_BLOCK;
    const segment = { words: new Uint32Array(blocks * BLOCK_WORDS), shift: Math.clz32(blocks) + 1, left: elements };
    this.#segments.push(segment);
    return segment;
  }
}
