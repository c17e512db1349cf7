import type { Worker } from "node:worker_threads";
import { EventsArchived } from "../engine/archives.ts";
import { AskedThread } from "../engine/asked_thread.ts";
import type { EventPage, EventRange, EventReader } from "../engine/events.ts";
import type { EventRow } from "../log/event.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { withBuffers } from "./crossed.ts";

/** What the service's thread asks the reader's. */
export type ReaderRequest = (ReaderQuestion & { readonly id: number }) | { readonly kind: "close" };

type ReaderQuestion =
  | { readonly kind: "query"; readonly filter: EventFilter; readonly range: EventRange }
  | { readonly kind: "event"; readonly seq: number }
  | { readonly kind: "lastSeq" | "oldestSeq" };

/** And back: what was asked for; where the log begins, if that is behind it; or what has failed. */
export interface ReaderAnswer {
  readonly id: number;
  readonly answer?: unknown;
  readonly archived?: number;
  readonly error?: string;
}

/** Queries over the log, answered by a thread of their own. */
export class ThreadedEventReader implements EventReader {
  readonly #thread: AskedThread<ReaderQuestion, ReaderAnswer>;

  constructor(start: () => Worker, report: (message: string) => void) {
    const read = ({ answer, archived }: ReaderAnswer): unknown => {
      if (archived !== undefined) throw new EventsArchived(archived);
      return answer;
    };
    this.#thread = new AskedThread({ doing: "reading the log", start, read, report });
  }

  /** Nothing may be asked before. */
  start(): void {
    this.#thread.start();
  }

  async query(filter: EventFilter, range: EventRange): Promise<EventPage> {
    const page = await this.#ask<EventPage>({ kind: "query", filter, range });
    return { ...page, rows: page.rows.map(withBuffers) };
  }

  async event(seq: number): Promise<EventRow | null> {
    const row = await this.#ask<EventRow | null>({ kind: "event", seq });
    return row === null ? null : withBuffers(row);
  }

  oldestSeq(): Promise<number> {
    return this.#ask({ kind: "oldestSeq" });
  }

  lastSeq(): Promise<number> {
    return this.#ask({ kind: "lastSeq" });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }

  #ask<Answer>(question: ReaderQuestion): Promise<Answer> {
    return this.#thread.ask(question);
  }
}
