/**
 * Writes to the log. If an append fails, nothing happened. If its sync fails, nobody can know (LogUncertain in
 * `ports.ts`): the engine then accepts nothing any more, and the process ends. It also ends if the log's files are
 * gone.
 */

import type { Event } from "../log/event.ts";
import { type Clock, type EventLog, LogUncertain } from "./ports.ts";
import type { NotDone } from "./request.ts";

export interface LogWritesParts {
  readonly log: Pick<EventLog, "append" | "deleteArchived" | "missing">;
  readonly clock: Pick<Clock, "nowMs">;
  readonly report: (message: string, error: unknown) => void;
  /** Told, once, that nothing is taken on any more: only another process can find out what the log has. Left out: nobody is. */
  readonly ended: ((why: string) => void) | undefined;
}

/** How long a log that has failed is left alone by the service's own commands. */
const RETRY_MS = 5000;
/** How often it is looked whether the log's files are there, while nobody writes. */
const SEEK_MS = 1000;
/** Archived events removed from the log between two batches. */
const DELETE_EVENTS = 1000;

export class LogWrites {
  readonly #parts: LogWritesParts;
  #ended = false;
  /** Until when the service runs no commands of its own. */
  #restUntilMs = 0;
  /** When it was last looked whether the log's files are there. */
  #soughtMs = 0;

  constructor(parts: LogWritesParts) {
    this.#parts = parts;
  }

  /** Why a batch cannot be taken on; null: it can. Looks whether the log's files are there. */
  get refusal(): NotDone | null {
    return this.#ended || this.#isLost() ? ENDED : null;
  }

  /** The commit point. null: the events are durable; otherwise they have not happened, or nobody knows. */
  append(events: readonly Event[]): NotDone | null {
    if (events.length === 0) return null;
    try {
      this.#parts.log.append(events);
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

  /** Whether the service is to wait before it writes of its own accord. */
  get rests(): boolean {
    return this.#parts.clock.nowMs() < this.#restUntilMs;
  }

  /** The log has failed a command of the service's own. */
  rest(): void {
    this.#restUntilMs = this.#parts.clock.nowMs() + RETRY_MS;
  }

  /** Beside batches, once a second: whether the log's files are there. */
  seek(): void {
    const nowMs = this.#parts.clock.nowMs();
    if (nowMs - this.#soughtMs < SEEK_MS) return;
    this.#soughtMs = nowMs;
    if (!this.#ended) this.#isLost();
  }

  /** Answers whether any are left. If the log fails, they stay for the next time. */
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

  /** Whether events that are written from now on would be gone with the process: then none are. */
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
    "the log could not be synced: whether the command is recorded is unknown until the service, which ends, has been started again; look at what has become of it before it is sent again",
};
const ENDED: NotDone = {
  failure: "log failed",
  detail: "the service is ending: nothing can be written to its log",
  done: "nothing",
};
