/** Several sorted cursors as one. */

import { type Cursor, compareBytes } from "./block.ts";
import { Delegate } from "./delegate.ts";

/** Upwards or downwards. */
export type Sign = 1 | -1;

/** Walks cursors as one, in the order of their keys; of entries with the same key it shows that of the first cursor. */
export class MergedCursor extends Delegate<Cursor> {
  readonly #sign: Sign;
  /** Cursors that are at an entry, the next one first. */
  readonly #order: { readonly cursor: Cursor; readonly rank: number }[] = [];

  /** `cursors`: the newest first, each already put to its first entry. */
  constructor(cursors: readonly Cursor[], sign: Sign = 1) {
    super();
    this.#sign = sign;
    for (const [rank, cursor] of cursors.entries()) {
      if (!cursor.isAt) continue;
      this.#order.unshift({ cursor, rank });
      this.#settle();
    }
    this.part = this.#order[0]?.cursor ?? null;
  }

  next(): void {
    const order = this.#order;
    const [top, second] = order;
    if (top === undefined) return;
    // Older entries of the same key come right after it, and are skipped.
    if (second !== undefined && compare(top.cursor, second.cursor) === 0) {
      order.shift();
      this.#moveFirst();
      while (order[0] !== undefined && compare(top.cursor, order[0].cursor) === 0) this.#moveFirst();
      order.unshift(top);
    }
    this.#moveFirst();
    this.part = order[0]?.cursor ?? null;
  }

  /** Moves the first cursor on, and puts it where it now belongs. */
  #moveFirst(): void {
    const { cursor } = this.#order[0] as { cursor: Cursor };
    cursor.next();
    if (cursor.isAt) this.#settle();
    else this.#order.shift();
  }

  #settle(): void {
    const order = this.#order;
    const first = order[0] as { cursor: Cursor; rank: number };
    let at = 0;
    for (let next = order[1]; next !== undefined; next = order[at + 1]) {
      const difference = this.#sign * compare(first.cursor, next.cursor) || first.rank - next.rank;
      if (difference < 0) break;
      order[at++] = next;
    }
    order[at] = first;
  }
}

function compare(left: Cursor, right: Cursor): number {
  return compareBytes(left.key, left.keyBytes, right.key, right.keyBytes);
}
