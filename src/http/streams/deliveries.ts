/**
 * Writes to many connections, in slices: to write to each of 1,000 sockets takes 7 to 40 ms, and in one go it would
 * delay all other requests. Each turn of the event loop has one slice, over all streams.
 */

/** The length of a slice. */
const SLICE_MS = 1;
/** Writes between two looks at the clock. */
const WRITES = 4;

/** Something that is written in its turn. */
export interface Delivery {
  deliver(nowMs: number): void;
}

export class Deliveries {
  #due: Delivery[] = [];
  #at = 0;
  #isScheduled = false;
  readonly #nowMs: () => number;

  constructor(nowMs = (): number => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Adds a delivery after those that are due already. */
  add(delivery: Delivery): void {
    this.#due.push(delivery);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#slice());
  }

  #slice(): void {
    let nowMs = this.#nowMs();
    const endMs = nowMs + SLICE_MS;
    while (this.#at < this.#due.length && nowMs < endMs) {
      const end = Math.min(this.#at + WRITES, this.#due.length);
      while (this.#at < end) (this.#due[this.#at++] as Delivery).deliver(nowMs);
      nowMs = this.#nowMs();
    }
    if (this.#at < this.#due.length) {
      setImmediate(() => this.#slice());
      return;
    }
    this.#due = [];
    this.#at = 0;
    this.#isScheduled = false;
  }
}
