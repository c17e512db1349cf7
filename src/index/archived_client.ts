import type { Worker } from "node:worker_threads";
import { EventsArchived } from "../engine/archives.ts";
import type { ArchivedReader, EventPage, EventRange, KeptTimes, MarkedRow } from "../engine/events.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { columnsWithBuffers, withBuffers } from "../log/row_transfer.ts";
import { AskedById } from "../supervisor/asked_by_id.ts";

type Question =
  | { readonly kind: "query"; readonly filter: EventFilter; readonly range: EventRange; readonly kept: KeptTimes }
  | { readonly kind: "event" | "mark" | "row"; readonly seq: number }
  | { readonly kind: "lastBefore"; readonly timeUs: number }
  | { readonly kind: "peers"; readonly sessions: readonly number[] }
  | { readonly kind: "oldestSeq" };

/** What the service's thread asks that of archived events. */
export type ArchivedRequest = (Question & { readonly id: number }) | { readonly kind: "close" };

/** And back. `archived`: the oldest event that is at hand, which is behind what was asked for. */
export type ArchivedAnswer =
  | { readonly id: number; readonly answer: unknown }
  | { readonly id: number; readonly archived: number };

/** Archived events, read by a thread that is started when it is first asked: most services never are. */
export class ArchivedClient implements ArchivedReader {
  readonly #thread: AskedById<Question, ArchivedAnswer>;

  constructor(start: () => Worker, report: (message: string) => void) {
    const read = (message: ArchivedAnswer): unknown => {
      if ("archived" in message) throw new EventsArchived(message.archived);
      return message.answer;
    };
    this.#thread = new AskedById({ doing: "reading archived events", start, read, report, onDemand: true });
  }

  oldestSeq(): Promise<number> {
    return this.#ask({ kind: "oldestSeq" });
  }

  async query(filter: EventFilter, range: EventRange, kept: KeptTimes): Promise<EventPage> {
    const page = await this.#ask<EventPage>({ kind: "query", filter, range, kept });
    return { ...page, rows: page.rows.map(withBuffers) };
  }

  mark(seq: number): Promise<number | null> {
    return this.#ask({ kind: "mark", seq });
  }

  async event(seq: number): Promise<MarkedRow | null> {
    const row = await this.#ask<MarkedRow | null>({ kind: "event", seq });
    return row === null ? null : withBuffers(row);
  }

  async row(seq: number): Promise<RowBytes | null> {
    const row = await this.#ask<RowBytes | null>({ kind: "row", seq });
    return row === null ? null : columnsWithBuffers(row);
  }

  lastBefore(timeUs: number): Promise<number> {
    return this.#ask({ kind: "lastBefore", timeUs });
  }

  peers(sessions: readonly number[]): Promise<(string | null)[]> {
    return this.#ask({ kind: "peers", sessions });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }

  #ask<Answer>(question: Question): Promise<Answer> {
    return this.#thread.ask(question);
  }
}
