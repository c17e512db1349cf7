import { IGNORE } from "../engine/followers.ts";
import { MemoryCells } from "../engine/memory.ts";
import { PendingCells } from "../engine/pending.ts";
import type { Event } from "../log/event.ts";
import type { Cell } from "../maps/cells.ts";
import type { Host } from "../maps/map.ts";
import { redo } from "../syscall/execute.ts";
import { State } from "../syscall/state.ts";

/**
 * Pending cells are written, which sorts them, once there are this many cells or bytes. A cell that changes many times
 * before that is sorted once.
 */
const WRITE_CELLS = 1_048_576;
const WRITE_BYTES = 256 * 1024 * 1024;
/** Cells of freed maps that one call reclaims. */
const RECLAIM_CELLS = 100_000;

/** Greater than every key, because no key begins with eight 0xff. */
const END = "\xff".repeat(8);

export class NoReplay extends Error {
  readonly seq: number;

  constructor(seq: number, cause: Error) {
    super(`it cannot be replayed: ${cause.message}`, { cause });
    this.seq = seq;
  }
}

/** The state that events give, in memory. */
export class Fold {
  readonly state: State;
  readonly #cells: MemoryCells;
  readonly #pending: PendingCells;
  seq: number;

  /** `cells`: the cells to start from. */
  constructor(host: Host, cells = new MemoryCells()) {
    this.#cells = cells;
    this.seq = cells.seq;
    this.#pending = new PendingCells(cells);
    this.state = new State(this.#pending, host, IGNORE);
  }

  /** All cells in the order of keys. Call `settle` first. */
  cells(): Iterable<Cell> {
    return this.#cells.range("\x01", END);
  }

  /** Applies events. `events` may leave out those up to `until` that changed nothing. */
  async through(events: readonly Event[], until: number): Promise<void> {
    for (const { seq, command, outcome } of events)
      try {
        redo(this.state, command, outcome);
      } catch (error) {
        throw new NoReplay(seq, error as Error);
      }
    this.seq = until;
    if (this.#pending.size >= WRITE_CELLS || this.#pending.bytes >= WRITE_BYTES) await this.#write();
  }

  /** Removes the cells of freed maps and writes all pending ones, so that the cells depend on the events alone. */
  async settle(): Promise<void> {
    while (this.state.garbage.reclaim(RECLAIM_CELLS));
    await this.#write();
  }

  async #write(): Promise<void> {
    this.#pending.write(this.seq, (error) => {
      throw error;
    });
    await this.#pending.writing;
  }
}
