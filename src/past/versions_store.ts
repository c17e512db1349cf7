/**
 * A history that begins at the snapshot after archived events: the snapshot's cells become versions as of the last
 * archived event.
 */

import type { SortedStore } from "../engine/ports.ts";
import type { Cell, CellKey } from "../maps/cells.ts";
import { CellsAsOf, versionKey } from "./versions.ts";

const NOTHING = Buffer.alloc(0);

/** A history as a store of cells, to fill a new history with the state at the end of the archived events. */
export class VersionsStore implements SortedStore {
  readonly #store: SortedStore;
  readonly #latest: CellsAsOf;
  readonly #first: number;

  /** `first`: the last archived event; cells that are written with seq 0 become versions of it. */
  constructor(store: SortedStore, first: number) {
    this.#store = store;
    this.#latest = new CellsAsOf(store, Number.MAX_SAFE_INTEGER);
    this.#first = first;
  }

  get seq(): number {
    return this.#store.seq;
  }

  get(key: CellKey): Buffer | undefined {
    return this.#latest.get(key);
  }

  range(from: CellKey, to: CellKey): Iterable<Cell> {
    return this.#latest.range(from, to);
  }

  rangeDown(): never {
    throw new Error("walking a history's cells: they are only walked upwards");
  }

  write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number, bytes: number): Promise<void> {
    return this.#store.write(this.#versions(changes, seq === 0 ? this.#first : seq), seq, bytes);
  }

  *#versions(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): Iterable<readonly [CellKey, Buffer]> {
    for (const [cell, bytes] of changes) yield [versionKey(cell, 0, seq, bytes !== null), bytes ?? NOTHING];
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
