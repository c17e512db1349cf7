import type { Database, Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";

/** Events above one seq, up to another. */
export interface Stretch {
  readonly after: number;
  readonly until: number;
}

/**
 * Finds events by their times, which ascend but where a clock was put back: each such event begins a stretch in which they do, and
 * the log's own index has these events. So a moment is found by a binary search a stretch.
 */
export class LogTimes {
  readonly #timeAt: Statement;
  readonly #steps: Statement;

  /** `events`: the table, as this connection names it. */
  constructor(db: Database, events: "events" | "log.events" = "events") {
    this.#timeAt = db.prepare(`SELECT time_us FROM ${events} WHERE seq = ?`).pluck();
    // The number stands there as it does in the index: SQLite uses that for this text alone.
    this.#steps = db
      .prepare(`SELECT seq FROM ${events} WHERE cmd = ${CMD.CLOCK_STEP} AND seq > ? AND seq <= ? ORDER BY seq`)
      .pluck();
  }

  /** Microseconds since the epoch; undefined: there is no such event. */
  at(seq: number): number | undefined {
    return this.#timeAt.get(seq) as number | undefined;
  }

  /** The last event that is stamped before a moment; `within.after` where there is none. */
  lastBefore(timeUs: number, within: Stretch): number {
    for (const stretch of this.#stretches(within).reverse()) {
      const seq = this.#lastBefore(timeUs, stretch);
      if (seq > stretch.after) return seq;
    }
    return within.after;
  }

  /**
   * From one moment to another, both included: behind the last event that is stamped before the one, up to the last that is stamped at
   * or before the other. A clock that was put back was ahead: what it has stamped until then was earlier.
   */
  between(sinceUs: number | undefined, untilUs: number | undefined, within: Stretch): Stretch {
    return {
      after: sinceUs === undefined ? within.after : this.lastBefore(sinceUs, within),
      until: untilUs === undefined ? within.until : this.lastBefore(untilUs + 1, within),
    };
  }

  #stretches({ after, until }: Stretch): Stretch[] {
    if (after >= until) return [];
    const steps = this.#steps.all(after + 1, until) as number[];
    const starts = [after, ...steps.map((seq) => seq - 1)];
    return starts.map((start, at) => ({ after: start, until: starts[at + 1] ?? until }));
  }

  #lastBefore(timeUs: number, { after, until }: Stretch): number {
    let before = after;
    let notBefore = until + 1;
    while (notBefore - before > 1) {
      const middle = Math.floor((before + notBefore) / 2);
      if ((this.#timeAt.get(middle) as number) < timeUs) before = middle;
      else notBefore = middle;
    }
    return before;
  }
}
