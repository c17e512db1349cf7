import type { Database, Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";

/** Events above `after`, up to `until`. */
export interface Stretch {
  readonly after: number;
  readonly until: number;
}

/**
 * Finds events by time. Times ascend, except at CLOCK_STEP events: each begins a stretch in which they ascend again.
 * The log has an index of these events, so a time is found by a binary search of each stretch.
 */
export class LogTimes {
  readonly #timeAt: Statement;
  readonly #steps: Statement;

  /** `events`: the name of the table in this connection. */
  constructor(db: Database, events: "events" | "log.events" = "events") {
    this.#timeAt = db.prepare(`SELECT time_us FROM ${events} WHERE seq = ?`).pluck();
    // The number must be part of the SQL text: SQLite uses the partial index only if the condition is the same as the
    // index's.
    this.#steps = db
      .prepare(`SELECT seq FROM ${events} WHERE cmd = ${CMD.CLOCK_STEP} AND seq > ? AND seq <= ? ORDER BY seq`)
      .pluck();
  }

  /** The time of an event in microseconds since the epoch; undefined if there is no such event. */
  at(seq: number): number | undefined {
    return this.#timeAt.get(seq) as number | undefined;
  }

  /** The last event with a time before `timeUs`; `within.after` if there is none. */
  lastBefore(timeUs: number, within: Stretch): number {
    for (const stretch of this.#stretches(within).reverse()) {
      const seq = this.#lastBefore(timeUs, stretch);
      if (seq > stretch.after) return seq;
    }
    return within.after;
  }

  /**
   * The events from one time to another, both included. If the clock was put back, the same times occur twice: the
   * range then ends at the later event, and begins after the last event that is too early. Example: events 1 to 4 have
   * the times 5, 9, 4 and 6, because the clock was put back before event 3. The range from 6 on is event 4.
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
