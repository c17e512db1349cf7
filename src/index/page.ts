import type { EventRow } from "../log/event.ts";

/** An answer ends after so many bytes of keys and values, however few its events are. */
const ANSWER_BYTES = 1024 * 1024;
/** And after so many events that were looked at, however few have matched: others want to be answered, too. */
const LOOKED_AT_MAX = 20_000;

/** The rows of an answer, as they are found. */
export class Page {
  readonly #limit: number;
  readonly #rows: EventRow[] = [];
  #reached = 0;
  #bytes = 0;
  #lookedAt = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many events it may still look at. */
  get left(): number {
    return Math.max(LOOKED_AT_MAX - this.#lookedAt, 1);
  }

  /**
   * An event was looked at, and taken unless it is null; with those before it, it counts as `looked` events. Answers
   * whether there is room for another.
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
