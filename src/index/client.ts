import type { Worker } from "node:worker_threads";
import type { EventPage, EventRange, KeptReader, KeptTimes, MarkedRow } from "../engine/events.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { withBuffers } from "../log/row_transfer.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";
import { READER, type ReaderProtocol } from "./protocol.ts";

/** Queries over the log, answered by a thread of their own. */
export class ThreadedEventReader implements KeptReader {
  readonly #thread: AskedThread<ReaderProtocol>;

  constructor(start: () => Worker, report: (message: string) => void, told: (fault: PartFault | null) => void) {
    this.#thread = new AskedThread(READER, {
      start,
      report,
      part: { name: "index", told },
      listeners: {},
      answers: {},
    });
  }

  /** The last event that the index is known to include. */
  get seq(): number {
    return this.#thread.seq;
  }

  /** Call before any query. */
  start(): void {
    this.#thread.start();
  }

  async query(filter: EventFilter, range: EventRange): Promise<EventPage> {
    const page = await this.#thread.ask("query", { filter, range });
    return { ...page, rows: page.rows.map(withBuffers) };
  }

  async event(seq: number): Promise<MarkedRow | null> {
    const row = await this.#thread.ask("event", { seq });
    return row === null ? null : withBuffers(row);
  }

  mark(seq: number): Promise<number | null> {
    return this.#thread.ask("mark", { seq });
  }

  isUntouched(map: number, afterSeq: number, untilSeq: number): Promise<boolean> {
    return this.#thread.ask("isUntouched", { map, afterSeq, untilSeq });
  }

  keptTimes(filter: EventFilter): Promise<KeptTimes> {
    return this.#thread.ask("keptTimes", { filter });
  }

  /** The oldest event that is not archived. */
  oldestSeq(): Promise<number> {
    return this.#thread.ask("oldestSeq", {});
  }

  lastSeq(): Promise<number> {
    return this.#thread.ask("lastSeq", {});
  }

  async takeIn(): Promise<void> {
    await this.#thread.ask("takeIn", {});
  }

  peers(sessions: readonly number[]): Promise<(string | null)[]> {
    return this.#thread.ask("peers", { sessions });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
