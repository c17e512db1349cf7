/**
 * Appends batches to the log, and removes archived events from it. If an append fails, the batch has not happened. If
 * its sync fails, nobody can know whether it has (LogUncertain in `ports.ts`): the engine then refuses all batches, and
 * the process ends. The process also ends if a file of the log was removed or replaced.
 */

import type { Event } from "../log/event.ts";
import { type Clock, type EventLog, LogUncertain } from "./ports.ts";
import type { NotDone } from "./request.ts";

export interface LogWritesParts {
  readonly log: Pick<EventLog, "append" | "deleteArchived" | "missing">;
  readonly clock: Pick<Clock, "nowMs">;
  readonly report: (message: string, error: unknown) => void;
  /**
   * Called once, with the reason, if nothing can be written to the log any more: only another process can find out what
   * the log has. Absent: nobody is informed.
   */
  readonly ended: ((why: string) => void) | undefined;
}

/** The pause of the engine's own commands after the log failed. */
const RETRY_MS = 5000;
/** The interval of looks for the log's files. Each batch looks, too. */
const SEEK_MS = 1000;
/** How long an append that found the log's files vouches for them. */
const FOUND_MS = 10;
/** The most archived events that are removed between two batches. */
const DELETE_EVENTS = 1000;

export class LogWrites {
  readonly #parts: LogWritesParts;
  #ended = false;
  /** The engine runs no commands of its own before this time. */
  #restUntilMs = 0;
  /** The time of the last append, which found the log's files. */
  #foundMs = Number.NEGATIVE_INFINITY;
  /** The time of the last look for the log's files between batches. */
  #soughtMs = 0;

  constructor(parts: LogWritesParts) {
    this.#parts = parts;
  }

  /** The reason why a batch is refused; null: it is accepted. Looks for the log's files, unless the last append just has. */
  get refusal(): NotDone | null {
    if (this.#ended) return ENDED;
    if (this.#parts.clock.nowMs() - this.#foundMs < FOUND_MS) return null;
    return this.#isLost() ? ENDED : null;
  }

  /**
   * The commit point. null: the events are durable. Otherwise they have not happened, or nobody knows whether they
   * have.
   */
  append(events: readonly Event[]): NotDone | null {
    if (events.length === 0) return null;
    try {
      this.#parts.log.append(events);
      this.#foundMs = this.#parts.clock.nowMs();
      return null;
    } catch (error) {
      this.#parts.report(`appending ${events.length} events to the log`, error);
      if (error instanceof LogUncertain) {
        this.#end(error.message);
        return UNKNOWN;
      }
      const full = (error as { code?: string }).code === "SQLITE_FULL";
      return {
        failure: full ? "disk full" : "log failed",
        detail: full ? "the log's disk is full" : "the log could not be written",
        done: "nothing",
      };
    }
  }

  /** Whether the engine's own commands pause. */
  get rests(): boolean {
    return this.#parts.clock.nowMs() < this.#restUntilMs;
  }

  /** Begins a pause of the engine's own commands, after the log has failed one. */
  rest(): void {
    this.#restUntilMs = this.#parts.clock.nowMs() + RETRY_MS;
  }

  /** Looks for the log's files, at most once a second. */
  seek(): void {
    const nowMs = this.#parts.clock.nowMs();
    if (nowMs - this.#soughtMs < SEEK_MS) return;
    this.#soughtMs = nowMs;
    if (!this.#ended) this.#isLost();
  }

  /** Removes some archived events. Returns whether more are left. If the log fails, they are removed later. */
  deleteArchived(): boolean {
    if (this.#ended || this.rests) return false;
    try {
      return this.#parts.log.deleteArchived(DELETE_EVENTS);
    } catch (error) {
      this.rest();
      this.#parts.report("removing archived events from the log", error);
      if (error instanceof LogUncertain) this.#end(error.message);
      return false;
    }
  }

  /**
   * Whether a file of the log was removed or replaced. The next process would not find events that are written from now
   * on, so none are.
   */
  #isLost(): boolean {
    const missing = this.#parts.log.missing?.() ?? null;
    if (missing !== null) this.#end(missing);
    return missing !== null;
  }

  #end(why: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#parts.ended?.(why);
  }
}

const UNKNOWN: NotDone = {
  failure: "outcome unknown",
  detail:
    "the log could not be synced, so the service ends: whether the command is recorded is unknown until the service has been started again; read what the command changes before you send it again",
};
const ENDED: NotDone = {
  failure: "log failed",
  detail: "the service is ending: nothing can be written to its log",
  done: "nothing",
};
