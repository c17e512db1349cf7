/**
 * Decides when pending cells (`pending.ts`) are written to the store: when there are 65,536 cells or 64 MiB, or when
 * the engine rests. A recovery writes a million cells (or 64 MiB) at a time, because most change many times over. If a
 * write fails, the cells stay pending, and the write is tried again; at three times the usual amount, commands that
 * could add cells are refused.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { faultIn, type PartFault } from "../supervisor/derived_parts.ts";
import type { PendingCells } from "./pending.ts";
import type { Clock, StateStore } from "./ports.ts";
import type { NotDone } from "./request.ts";

/** An amount of changed cells that the store does not have yet. */
export interface Pending {
  readonly cells: number;
  readonly bytes: number;
}

export interface StateWritesParts {
  readonly cells: Pick<PendingCells, "size" | "bytes" | "writing" | "write" | "settle">;
  readonly store: Pick<StateStore, "seq">;
  readonly clock: Pick<Clock, "nowMs">;
  /** The amount that is written at once. Absent: LARGE. */
  readonly large: Pending | undefined;
  readonly report: (message: string, error: unknown) => void;
  /** Called after each write: with the fault, or with null if the write succeeded. Absent: nobody is informed. */
  readonly told: ((fault: PartFault | null) => void) | undefined;
}

/** Pending cells are written at this amount, unless the engine rests before. Larger transactions cost less per cell. */
const LARGE: Pending = { cells: 65_536, bytes: 64 * 1024 * 1024 };
/** The factor of cells in a recovery: most cells change many times over, and only their last values are written. */
const REPLAY_CELLS = 16;
/** The most that may be pending while the store is busy or fails, in multiples of the usual amount. */
const OVERRUN = 3;
/**
 * The same for large commands. They wait before others do: while one of them adds cells faster than the store takes
 * them, everybody else finds room.
 */
const LARGE_OVERRUN = 2;
/**
 * If the store fails, a recovery goes on with its cells in memory, until they are this many times as many as it usually
 * writes at once; then it waits for the store.
 */
const REPLAY_OVERRUN = 8;
/** The pause after a failed write. */
const RETRY_MS = 5000;

export class StateWrites {
  readonly #parts: StateWritesParts;
  readonly #large: Pending;
  /** The time before which a store that has failed is not tried again. */
  #retryAtMs = 0;
  /** The fault of the last write; null: it succeeded. */
  #fault: PartFault | null = null;

  constructor(parts: StateWritesParts) {
    this.#parts = parts;
    this.#large = parts.large ?? LARGE;
  }

  /**
   * The refusal of commands that could add cells: the store fails, and the bound of pending cells is reached. null:
   * they are accepted.
   */
  get refusal(): NotDone | null {
    return this.#fault !== null && this.#isLarge(OVERRUN, OVERRUN) ? noRoom(this.#fault) : null;
  }

  /**
   * null: another batch can be accepted. Otherwise too many cells are pending; the promise resolves when the present
   * write is over.
   */
  get room(): Promise<void> | null {
    return this.#isLarge(OVERRUN, OVERRUN) ? this.#parts.cells.writing : null;
  }

  /** As room, for a piece of a large command. */
  get roomForPiece(): Promise<void> | null {
    return this.#isLarge(LARGE_OVERRUN, LARGE_OVERRUN) ? this.#parts.cells.writing : null;
  }

  /**
   * Begins to write all pending cells, with `seq` as the store's last event, unless a write is under way or has just
   * failed.
   */
  begin(seq: number): void {
    const { cells, clock, report, told } = this.#parts;
    if (cells.writing !== null || clock.nowMs() < this.#retryAtMs) return;
    let fault: PartFault | null = null;
    const written = cells.write(seq, (error) => {
      this.#retryAtMs = clock.nowMs() + RETRY_MS;
      report("writing to the state: its changes stay pending, and the log has their events", error);
      const detail = (error as Error).message;
      fault = { part: "state", state: "failed", detail, full: faultIn(error) === "full" };
    });
    written.then(() => {
      this.#fault = fault;
      told?.(fault);
    });
  }

  /** Begins to write if the usual amount is pending. */
  beginLarge(seq: number): void {
    if (this.#isLarge(1, 1)) this.begin(seq);
  }

  /** Call when the engine rests: begins to write whatever is pending. */
  beginRest(seq: number): void {
    const { cells } = this.#parts;
    cells.settle();
    if (cells.size > 0) this.begin(seq);
  }

  /**
   * Call in a recovery that has redone the event `seq`: writes if much is pending, and waits while too much is pending
   * and the store fails.
   */
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

  /** Writes all pending cells, unless the store fails. */
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
    detail: `the state cannot be written, and no more changes may be pending: ${detail}`,
    done: "nothing",
  };
}
