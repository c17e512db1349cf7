/** The stored segments of the index, which never change, and have no gaps between them. */

import type { SortedStore } from "../engine/ports.ts";
import { type CellKey, readU32Key } from "../maps/cells.ts";
import { Damaged } from "../supervisor/derived_parts.ts";
import type { Bits } from "./bits.ts";
import {
  type Asked,
  INFO_KEY,
  keysPrefix,
  postingsBetween,
  postingsPrefix,
  readU48Key,
  SEGMENTS,
  segmentOf,
  U48_BYTES,
  u48In,
  u48Key,
  type Wanted,
} from "./facets.ts";
import { addFromBlock, blockStart, type KeyWanted } from "./key_entries.ts";
import { addPostings } from "./postings.ts";
import type { SearchedSegment } from "./search.ts";

/** The layout of the cells. An index of another layout is made again. */
const LAYOUT = 1;
/** Sorts after the number of every block. */
const AFTER_BLOCKS = "\xff".repeat(5);

type Store = Pick<SortedStore, "get" | "range" | "rangeDown">;

/** The log that an index is made from, and the event after which it begins. */
export interface IndexInfo {
  readonly layout: number;
  readonly log: string;
  /** The index begins after this event: up to here, events were archived when it began. */
  readonly since: number;
  /** Whether the index was given the sizes of the keys of maps that were created up to `since`. */
  readonly hasSizes: boolean;
}

export function infoCell(info: Omit<IndexInfo, "layout">): readonly [CellKey, Buffer] {
  return [INFO_KEY, Buffer.from(JSON.stringify({ layout: LAYOUT, ...info } satisfies IndexInfo))];
}

/** null: the store has no index, or one of another layout. */
export function readInfo(store: Pick<SortedStore, "get">): IndexInfo | null {
  const bytes = store.get(INFO_KEY);
  if (bytes === undefined) return null;
  try {
    const info = JSON.parse(bytes.toString()) as IndexInfo;
    return info.layout === LAYOUT && Number.isSafeInteger(info.since) ? info : null;
  } catch {
    return null;
  }
}

/** A segment, whose cells are in a store. */
export class StoredSegment implements SearchedSegment {
  readonly first: number;
  readonly last: number;
  readonly #store: Store;

  constructor(store: Store, first: number, last: number) {
    this.#store = store;
    this.first = first;
    this.last = last;
  }

  add({ facet, value }: Wanted, bits: Bits): void {
    const bytes = this.#store.get(postingsPrefix(facet, value) + u48Key(this.first));
    if (bytes !== undefined) addPostings(bytes, bits);
  }

  addKeys(wanted: KeyWanted, bits: Bits): void {
    const prefix = keysPrefix(this.first);
    const least = prefix + blockStart(wanted.least);
    const end = prefix + blockStart(wanted.greatest) + AFTER_BLOCKS;
    for (const [key, bytes] of this.#store.rangeDown(prefix, end)) {
      addFromBlock([readU32Key(key, prefix.length), readU32Key(key, prefix.length + 4)], bytes, wanted, bits);
      // If this block begins with wanted bytes, the block before may end with them.
      if (key < least) return;
    }
  }
}

export class StoredSegments {
  readonly #store: Store;
  readonly #firsts: number[] = [];
  readonly #lasts: number[] = [];

  /** Throws Damaged unless the segments of a store have all events above `since`, up to `last`. */
  constructor(store: Store, since: number, last: number) {
    this.#store = store;
    let end = since;
    for (const [key, bytes] of store.range(...SEGMENTS)) {
      const first = readU48Key(key, 1);
      if (first !== end + 1 || bytes.length !== U48_BYTES)
        throw new Damaged(`the index has no segment that begins with event ${end + 1}`);
      end = u48In(bytes);
      if (end < first) throw new Damaged(`the index has a segment that ends before its first event, ${first}`);
      this.push(first, end);
    }
    if (end !== last) throw new Damaged(`the index has segments up to event ${end}, and was written up to ${last}`);
  }

  push(first: number, last: number): void {
    this.#firsts.push(first);
    this.#lasts.push(last);
  }

  /** All segments, ascending. */
  *all(): Iterable<StoredSegment> {
    for (let at = 0; at < this.#firsts.length; at++) yield this.#segment(at);
  }

  /**
   * The segments that may have matching events above `after`, up to `until`, ascending or descending. All these events
   * must be stored. Segments without the first value of `having` are skipped in one go.
   */
  *having({ having: [lead] }: Asked, after: number, until: number, isBackward: boolean): Iterable<StoredSegment> {
    const from = this.#at(after + 1);
    const to = this.#at(until);
    if (lead === undefined) {
      if (isBackward) for (let at = to; at >= from; at--) yield this.#segment(at);
      else for (let at = from; at <= to; at++) yield this.#segment(at);
      return;
    }
    const prefix = postingsPrefix(lead.facet, lead.value);
    const range = postingsBetween(prefix, this.#firsts[from] as number, this.#firsts[to] as number);
    for (const [key] of isBackward ? this.#store.rangeDown(...range) : this.#store.range(...range)) {
      const first = segmentOf(key);
      const at = this.#at(first);
      if (this.#firsts[at] !== first) throw new Damaged(`the index has postings behind ${first}, and no such segment`);
      yield this.#segment(at);
    }
  }

  #segment(at: number): StoredSegment {
    return new StoredSegment(this.#store, this.#firsts[at] as number, this.#lasts[at] as number);
  }

  /** The place of the segment that has an event. */
  #at(seq: number): number {
    let [low, high] = [0, this.#firsts.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#firsts[middle] as number) <= seq) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
