import { Bits } from "./bits.ts";
import type { Asked, Wanted } from "./facets.ts";
import { KeyWanted } from "./key_entries.ts";

/** A segment in which events are found, stored or in memory. */
export interface SearchedSegment {
  readonly first: number;
  readonly last: number;
  /** Adds the events that have the wanted value. */
  add(wanted: Wanted, bits: Bits): void;
  /** Adds the events that may have a key with the wanted beginning. */
  addKeys(wanted: KeyWanted, bits: Bits): void;
}

/** Searches segments for the events that a filter selects. */
export class Search {
  readonly #asked: Asked;
  readonly #key: KeyWanted | null;
  readonly #bits = new Bits();
  readonly #other = new Bits();

  constructor(asked: Asked) {
    this.#asked = asked;
    this.#key = asked.key === null ? null : new KeyWanted(asked.key);
  }

  /** The events of a segment above `after`, up to `until`, that may match; by their seqs, ascending or descending. */
  *in(segment: SearchedSegment, after: number, until: number, isBackward: boolean): Iterable<number> {
    const found = this.#found(segment, after, until);
    for (const offset of isBackward ? found.descending() : found.ascending()) yield segment.first + offset;
  }

  /** Whether there is any such event. */
  has(segment: SearchedSegment, after: number, until: number): boolean {
    return !this.#found(segment, after, until).isEmpty;
  }

  #found(segment: SearchedSegment, after: number, until: number): Bits {
    const { first, last } = segment;
    const [from, to] = [Math.max(after + 1, first) - first, Math.min(until, last) - first];
    const { having, lacking } = this.#asked;
    const [bits, other] = [this.#bits, this.#other];
    bits.clear();
    if (from > to) return bits;
    bits.addRange(from, to);
    for (const wanted of having) {
      other.clear();
      segment.add(wanted, other);
      bits.keep(other);
      if (bits.isEmpty) return bits;
    }
    for (const wanted of lacking) {
      other.clear();
      segment.add(wanted, other);
      bits.remove(other);
    }
    if (this.#key === null || bits.isEmpty) return bits;
    other.clear();
    segment.addKeys(this.#key, other);
    bits.keep(other);
    return bits;
  }
}
