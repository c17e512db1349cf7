/**
 * A Bloom filter: it says that a file certainly does not have a key, or that the file may have it. It has 10 bits for
 * each key, and a key sets 6 bits. It takes about 1 in 100 absent keys for present ones.
 */

const BITS_A_KEY = 10;
const BITS_SET = 6;

/** A 32-bit hash (FNV-1a, and a mix of its bits at the end). */
export function hashOf(key: Uint8Array, bytes: number): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < bytes; at++) hash = Math.imul(hash ^ (key[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Hashes of a file's keys, from which its filter is made. */
export class FilterWriter {
  #hashes = new Uint32Array(1024);
  #size = 0;

  /** A key that was added right before is not counted twice. */
  add(hash: number): void {
    if (this.#size > 0 && this.#hashes[this.#size - 1] === hash) return;
    if (this.#size === this.#hashes.length) {
      const larger = new Uint32Array(this.#size * 2);
      larger.set(this.#hashes);
      this.#hashes = larger;
    }
    this.#hashes[this.#size++] = hash;
  }

  /** Makes the filter, and begins the next. */
  take(): Buffer {
    const filter = Buffer.alloc(Math.ceil((this.#size * BITS_A_KEY) / 8));
    const bits = filter.length * 8;
    for (let at = 0; at < this.#size; at++) {
      let hash = this.#hashes[at] as number;
      const step = stepOf(hash);
      for (let set = 0; set < BITS_SET; set++) {
        const bit = hash % bits;
        filter[bit >>> 3] = (filter[bit >>> 3] as number) | (1 << (bit & 7));
        hash = (hash + step) >>> 0;
      }
    }
    this.#size = 0;
    return filter;
  }
}

/** false: no key with this hash is in the filter. */
export function mayHave(filter: Buffer, hashed: number): boolean {
  const bits = filter.length * 8;
  if (bits === 0) return false;
  const step = stepOf(hashed);
  let hash = hashed;
  for (let set = 0; set < BITS_SET; set++) {
    const bit = hash % bits;
    if (((filter[bit >>> 3] as number) & (1 << (bit & 7))) === 0) return false;
    hash = (hash + step) >>> 0;
  }
  return true;
}

/** The distance of a key's bits: a second hash, odd. */
function stepOf(hash: number): number {
  return ((hash >>> 17) | (hash << 15) | 1) >>> 0;
}
