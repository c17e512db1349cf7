/**
 * Decides when pending cells (`pending.ts`) are written to the store: 65,536 cells or 64 MiB at a time, or when the
 * engine rests. A replay writes a million cells at a time, because most change many times over. If a write fails, it is
 * tried again, and the cells stay pending up to a bound; then commands that could add cells are refused.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { faultIn, type PartFault } from "../supervisor/derived_parts.ts";
import type { PendingCells } from "./pending.ts";
import type { Clock, StateStore } from "./ports.ts";
import type { NotDone } from "./request.ts";

/** Changed cells that the store does not have yet. */
export interface Pending {
  readonly cells: number;
  readonly bytes: number;
}

export interface StateWritesParts {
  readonly cells: Pick<PendingCells, "size" | "bytes" | "writing" | "write">;
  readonly store: Pick<StateStore, "seq">;
  readonly clock: Pick<Clock, "nowMs">;
  /** So much is written at once; left out: what costs least. */
  readonly large: Pending | undefined;
  readonly report: (message: string, error: unknown) => void;
  /** Told when the state cannot be written, and when it can be again: null. Left out: nobody is. */
  readonly told: ((fault: PartFault | null) => void) | undefined;
}

/** When pending cells are written to the store, unless it rests before: large transactions cost least a cell. */
const LARGE: Pending = { cells: 65_536, bytes: 64 * 1024 * 1024 };
/** In a replay so many times as many cells: most change many times over, and only their last values are written. */
const REPLAY_CELLS = 16;
/** How far pending cells may outgrow that while the store is still being written to, or fails. */
const OVERRUN = 3;
/** The same in a replay whose store fails: a state that is smaller is served from memory. */
const REPLAY_OVERRUN = 8;
/** How long a store that has failed is left alone. */
const RETRY_MS = 5000;

export class StateWrites {
  readonly #parts: StateWritesParts;
  readonly #large: Pending;
  /** When the store may be tried again, after it has failed. */
  #retryAtMs = 0;
  /** Why the store could not be written to last; null: it could. */
  #fault: PartFault | null = null;

  constructor(parts: StateWritesParts) {
    this.#parts = parts;
    this.#large = parts.large ?? LARGE;
  }

  /** The refusal of commands that add cells: the store fails, and the bound of pending cells is reached. null: there is room. */
  get refusal(): NotDone | null {
    return this.#fault !== null && this.#isLarge(OVERRUN, OVERRUN) ? noRoom(this.#fault) : null;
  }

  /** null: there is room for another batch. Otherwise when there will be: the store is behind. */
  get room(): Promise<void> | null {
    return this.#isLarge(OVERRUN, OVERRUN) ? this.#parts.cells.writing : null;
  }

  /** Begins to write, up to an event's seq, unless the store is being written to, or has failed a moment ago. */
  begin(seq: number): void {
    const { cells, clock, report, told } = this.#parts;
    if (cells.writing !== null || clock.nowMs() < this.#retryAtMs) return;
    let fault: PartFault | null = null;
    const written = cells.write(seq, (error) => {
      this.#retryAtMs = clock.nowMs() + RETRY_MS;
      report("writing to the state: it stays pending, the log has it", error);
      const detail = (error as Error).message;
      fault = { part: "state", state: "failed", detail, full: faultIn(error) === "full" };
    });
    written.then(() => {
      this.#fault = fault;
      told?.(fault);
    });
  }

  /** Begins to write, if there is enough for that. */
  beginLarge(seq: number): void {
    if (this.#isLarge(1, 1)) this.begin(seq);
  }

  /** In a replay that has come to this event: writes if there is much, and waits while the store fails and there is too much. */
  async replayed(seq: number): Promise<void> {
    const { cells, clock } = this.#parts;
    if (!this.#isLarge(REPLAY_CELLS, 1)) return;
    await cells.writing;
    this.begin(seq);
    while (this.#isLarge(REPLAY_OVERRUN * REPLAY_CELLS, REPLAY_OVERRUN) && this.#fault !== null) {
      await sleep(this.#retryAtMs - clock.nowMs());
      this.begin(seq);
      await cells.writing;
    }
  }

  /** Writes everything that is pending, if the store takes it. */
  async all(seq: number): Promise<void> {
    const { cells, store } = this.#parts;
    await cells.writing;
    this.#retryAtMs = 0;
    if (cells.size > 0 || store.seq < seq) this.begin(seq);
    await cells.writing;
  }

  #isLarge(cellTimes: number, byteTimes: number): boolean {
    const { cells } = this.#parts;
    return cells.size >= this.#large.cells * cellTimes || cells.bytes >= this.#large.bytes * byteTimes;
  }
}

function noRoom({ detail, full }: PartFault): NotDone {
  return {
    failure: full ? "disk full" : "state failed",
    detail: `the state cannot be written, and as many changes are pending as may be: ${detail}`,
    done: "nothing",
  };
}
