/**
 * Numbers that several threads of the process keep together, in shared memory: each thread writes its own, and reads
 * what the others have.
 *
 *     kind       commands   KiB that wait   KiB in flight
 *     thread 0   12         3               0
 *     thread 1   40         9               512
 */

export class SharedCounts {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #kinds: number;

  /** With the memory of another thread's counts, or, as the first, with room for so many threads. */
  constructor(kinds: number, of: SharedArrayBuffer | { readonly threads: number }) {
    const bytes = Int32Array.BYTES_PER_ELEMENT * kinds;
    this.memory = "threads" in of ? new SharedArrayBuffer(bytes * of.threads) : of;
    this.#words = new Int32Array(this.memory);
    this.#kinds = kinds;
  }

  /** The sum of what all threads but this one have. */
  others(kind: number, thread: number): number {
    let sum = 0;
    for (let at = kind; at < this.#words.length; at += this.#kinds)
      if (at !== thread * this.#kinds + kind) sum += Atomics.load(this.#words, at);
    return sum;
  }

  set(kind: number, thread: number, count: number): void {
    Atomics.store(this.#words, thread * this.#kinds + kind, count);
  }

  /** The thread has ended: it has nothing any more. */
  clear(thread: number): void {
    for (let kind = 0; kind < this.#kinds; kind++) this.set(kind, thread, 0);
  }
}
