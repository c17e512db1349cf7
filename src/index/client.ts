import type { Worker } from "node:worker_threads";
import { EventsArchived } from "../engine/archives.ts";
import type { EventPage, EventRange, KeptReader, KeptTimes, MarkedRow } from "../engine/events.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { withBuffers } from "../log/row_transfer.ts";
import { AskedById } from "../supervisor/asked_by_id.ts";
import type { PartFault } from "../supervisor/derived_parts.ts";

/** What the service's thread asks the reader's. */
export type ReaderRequest = (ReaderQuestion & { readonly id: number }) | { readonly kind: "close" };

type ReaderQuestion =
  | { readonly kind: "query"; readonly filter: EventFilter; readonly range: EventRange }
  | { readonly kind: "event" | "mark"; readonly seq: number }
  | { readonly kind: "untouched"; readonly map: number; readonly afterSeq: number; readonly untilSeq: number }
  | { readonly kind: "keptTimes"; readonly filter: EventFilter }
  | { readonly kind: "peers"; readonly sessions: readonly number[] }
  | { readonly kind: "lastSeq" | "oldestSeq" | "take in" };

/** And back: what was asked for; where the log begins, if that is behind it; or what has failed. */
export interface ReaderAnswer {
  readonly id: number;
  readonly answer?: unknown;
  readonly archived?: number;
  readonly fault?: PartFault;
  readonly error?: string;
}

/** Queries over the log, answered by a thread of their own. */
export class ThreadedEventReader implements KeptReader {
  readonly #thread: AskedById<ReaderQuestion, ReaderAnswer>;

  constructor(start: () => Worker, report: (message: string) => void, told: (fault: PartFault | null) => void) {
    const read = ({ answer, archived }: ReaderAnswer): unknown => {
      if (archived !== undefined) throw new EventsArchived(archived);
      return answer;
    };
    this.#thread = new AskedById({ doing: "reading the log", start, read, report, part: { name: "index", told } });
  }

  /** Nothing may be asked before. */
  start(): void {
    this.#thread.start();
  }

  async query(filter: EventFilter, range: EventRange): Promise<EventPage> {
    const page = await this.#ask<EventPage>({ kind: "query", filter, range });
    return { ...page, rows: page.rows.map(withBuffers) };
  }

  async event(seq: number): Promise<MarkedRow | null> {
    const row = await this.#ask<MarkedRow | null>({ kind: "event", seq });
    return row === null ? null : withBuffers(row);
  }

  mark(seq: number): Promise<number | null> {
    return this.#ask({ kind: "mark", seq });
  }

  isUntouched(map: number, afterSeq: number, untilSeq: number): Promise<boolean> {
    return this.#ask({ kind: "untouched", map, afterSeq, untilSeq });
  }

  keptTimes(filter: EventFilter): Promise<KeptTimes> {
    return this.#ask({ kind: "keptTimes", filter });
  }

  /** The oldest event that is not archived. */
  oldestSeq(): Promise<number> {
    return this.#ask({ kind: "oldestSeq" });
  }

  lastSeq(): Promise<number> {
    return this.#ask({ kind: "lastSeq" });
  }

  async takeIn(): Promise<void> {
    await this.#ask({ kind: "take in" });
  }

  peers(sessions: readonly number[]): Promise<(string | null)[]> {
    return this.#ask({ kind: "peers", sessions });
  }

  close(): Promise<void> {
    return this.#thread.close();
  }

  #ask<Answer>(question: ReaderQuestion): Promise<Answer> {
    return this.#thread.ask(question);
  }
}
