import type { Worker } from "node:worker_threads";
import type { ArchivedReader, EventPage, EventRange, KeptTimes, MarkedRow } from "../engine/events.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { columnsWithBuffers, withBuffers } from "../log/row_transfer.ts";
import { AskedThread } from "../supervisor/asked_thread.ts";
import { ARCHIVED, type ArchivedProtocol } from "./protocol.ts";

/** Archived events, read by a thread that starts with the first question, because most services get none. */
export class ArchivedClient implements ArchivedReader {
  readonly #thread: AskedThread<ArchivedProtocol>;

  constructor(start: () => Worker, report: (message: string) => void) {
    this.#thread = new AskedThread(ARCHIVED, { start, report, onDemand: true, listeners: {}, answers: {} });
  }

  oldestSeq(): Promise<number> {
    return this.#thread.ask("oldestSeq", {});
  }

  async query(filter: EventFilter, range: EventRange, kept: KeptTimes): Promise<EventPage> {
    const page = await this.#thread.ask("query", { filter, range, kept });
    return { ...page, rows: page.rows.map(withBuffers) };
  }

  mark(seq: number): Promise<number | null> {
    return this.#thread.ask("mark", { seq });
  }

  async event(seq: number): Promise<MarkedRow | null> {
    const row = await this.#thread.ask("event", { seq });
    return row === null ? null : withBuffers(row);
  }

  async row(seq: number): Promise<RowBytes | null> {
    const row = await this.#thread.ask("row", { seq });
    return row === null ? null : columnsWithBuffers(row);
  }

  lastBefore(timeUs: number): Promise<number> {
    return this.#thread.ask("lastBefore", { timeUs });
  }

  peers(sessions: readonly number[]): Promise<(string | null)[]> {
    return this.#thread.ask("peers", { sessions });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }
}
