import { IGNORE } from "../engine/followers.ts";
import { MemoryCells } from "../engine/memory.ts";
import { PendingCells } from "../engine/pending.ts";
import type { Event } from "../log/event.ts";
import type { Cell } from "../maps/cells.ts";
import type { Host } from "../maps/map.ts";
import { redo } from "../syscall/execute.ts";
import { State } from "../syscall/state.ts";

/** When what has been folded is put in order: cells change many times over, and only what they are in the end is. */
const WRITE_CELLS = 1_048_576;
const WRITE_BYTES = 256 * 1024 * 1024;
/** Cells of freed maps that are removed at once. */
const RECLAIM_CELLS = 100_000;

/** Greater than every key: none begins with so many. */
const END = "\xff".repeat(8);

export class NoReplay extends Error {
  readonly seq: number;

  constructor(seq: number, cause: Error) {
    super(`it cannot be replayed: ${cause.message}`, { cause });
    this.seq = seq;
  }
}

/** What events add up to. */
export class Fold {
  readonly state: State;
  readonly #cells: MemoryCells;
  readonly #pending: PendingCells;
  seq: number;

  /** From where the cells are on. */
  constructor(host: Host, cells = new MemoryCells()) {
    this.#cells = cells;
    this.seq = cells.seq;
    this.#pending = new PendingCells(cells);
    this.state = new State(this.#pending, host, IGNORE);
  }

  /** All of them in order, once it has settled. */
  cells(): Iterable<Cell> {
    return this.#cells.range("\x01", END);
  }

  /** Events that may have changed something, of all up to `until`. */
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

  /** The cells are what the events add up to, and nothing else. */
  async settle(): Promise<void> {
    while (this.state.reclaim(RECLAIM_CELLS));
    await this.#write();
  }

  async #write(): Promise<void> {
    this.#pending.write(this.seq, (error) => {
      throw error;
    });
    await this.#pending.writing;
  }
}
