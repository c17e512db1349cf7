/** Events of a segment. */
export const SEGMENT_EVENTS = 65_536;

const WORD_BITS = 32;

/** A set of events of one segment, by their offsets from its first event. */
export class Bits {
  readonly #words = new Uint32Array(SEGMENT_EVENTS / WORD_BITS);

  clear(): void {
    this.#words.fill(0);
  }

  add(offset: number): void {
    this.#words[offset >>> 5] = (this.#words[offset >>> 5] as number) | (1 << (offset & 31));
  }

  /** Adds the offsets from `from` to `until`, both included. */
  addRange(from: number, until: number): void {
    const [first, last] = [from >>> 5, until >>> 5];
    const head = -1 << (from & 31);
    const tail = -1 >>> (31 - (until & 31));
    if (first === last) {
      this.#or(first, head & tail);
      return;
    }
    this.#or(first, head);
    this.#words.fill(0xffff_ffff, first + 1, last);
    this.#or(last, tail);
  }

  /** Adds the set bits of a bitmap, whose first byte has the offsets from 0 to 7. */
  addBitmap(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at++) this.#or(at >>> 2, (bytes[at] as number) << ((at & 3) << 3));
  }

  has(offset: number): boolean {
    return (((this.#words[offset >>> 5] as number) >>> (offset & 31)) & 1) === 1;
  }

  /** Keeps the offsets that the other set has, too. */
  keep(other: Bits): void {
    const [words, others] = [this.#words, other.#words];
    for (let at = 0; at < words.length; at++) words[at] = (words[at] as number) & (others[at] as number);
  }

  /** Removes the offsets that the other set has. */
  remove(other: Bits): void {
    const [words, others] = [this.#words, other.#words];
    for (let at = 0; at < words.length; at++) words[at] = (words[at] as number) & ~(others[at] as number);
  }

  get isEmpty(): boolean {
    return this.#words.every((word) => word === 0);
  }

  /** How many offsets it has. */
  get size(): number {
    let size = 0;
    for (const word of this.#words) for (let left = word; left !== 0; left &= left - 1) size++;
    return size;
  }

  *ascending(): Iterable<number> {
    for (let at = 0; at < this.#words.length; at++)
      for (let left = this.#words[at] as number; left !== 0; left &= left - 1)
        yield (at << 5) + 31 - Math.clz32(left & -left);
  }

  *descending(): Iterable<number> {
    for (let at = this.#words.length - 1; at >= 0; at--)
      for (let left = this.#words[at] as number; left !== 0; ) {
        const bit = 31 - Math.clz32(left);
        yield (at << 5) + bit;
        left &= ~(1 << bit);
      }
  }

  #or(word: number, bits: number): void {
    this.#words[word] = (this.#words[word] as number) | bits;
  }
}
