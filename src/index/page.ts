import type { EventRow } from "../log/event.ts";

/** A page ends after this many bytes of keys and values, even if it has few events. */
const ANSWER_BYTES = 1024 * 1024;
/** A page ends after this many examined events, even if few match, because other queries wait. */
const LOOKED_AT_MAX = 20_000;

/** The rows of a page, as they are found. */
export class Page {
  readonly #limit: number;
  readonly #rows: EventRow[] = [];
  #reached = 0;
  #bytes = 0;
  #lookedAt = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The number of events that may still be examined for this page. */
  get left(): number {
    return Math.max(LOOKED_AT_MAX - this.#lookedAt, 1);
  }

  /**
   * Call with each examined event. `row` null: it does not match. `looked`: the number of events that were examined up
   * to it. Returns whether the page has room for another.
   */
  look(seq: number, row: EventRow | null, looked = 1): boolean {
    this.#reached = seq;
    this.#lookedAt += looked;
    if (row !== null) {
      this.#rows.push(row);
      this.#bytes += (row.key?.length ?? 0) + (row.value?.length ?? 0);
    }
    return this.#rows.length < this.#limit && this.#bytes <= ANSWER_BYTES && this.#lookedAt < LOOKED_AT_MAX;
  }

  get taken(): { readonly rows: EventRow[]; readonly reached: number; readonly lookedAt: number } {
    return { rows: this.#rows, reached: this.#reached, lookedAt: this.#lookedAt };
  }
}
