import type { Worker } from "node:worker_threads";
import { EventsArchived } from "../engine/archives.ts";
import type { EventPage, EventRange, EventReader } from "../engine/events.ts";
import type { EventRow } from "../log/event.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { withBuffers } from "./crossed.ts";

/** What the service's thread asks the reader's. */
export type ReaderRequest =
  | { readonly kind: "query"; readonly id: number; readonly filter: EventFilter; readonly range: EventRange }
  | { readonly kind: "event"; readonly id: number; readonly seq: number }
  | { readonly kind: "lastSeq" | "oldestSeq"; readonly id: number }
  /** The log is there, and open to be read. */
  | { readonly kind: "open" }
  | { readonly kind: "close" };

/** And back: what was asked for; where the log begins, if that is behind it; or what has failed. */
export interface ReaderAnswer {
  readonly id: number;
  readonly answer?: unknown;
  readonly archived?: number;
  readonly error?: string;
}

type Question =
  | { readonly kind: "query"; readonly filter: EventFilter; readonly range: EventRange }
  | { readonly kind: "event"; readonly seq: number }
  | { readonly kind: "lastSeq" | "oldestSeq" };

/** Queries over the log, answered by a thread of their own. */
export class ThreadedEventReader implements EventReader {
  readonly #worker: Worker;
  readonly #asked = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  #last = 0;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.on("message", ({ id, answer, archived, error }: ReaderAnswer) => {
      const asked = this.#asked.get(id);
      this.#asked.delete(id);
      if (archived !== undefined) asked?.reject(new EventsArchived(archived));
      else if (error === undefined) asked?.resolve(answer as never);
      else asked?.reject(new Error(`reading the log: ${error}`));
    });
    worker.on("exit", () => {
      for (const { reject } of this.#asked.values()) reject(new Error("reading the log: its thread has stopped"));
      this.#asked.clear();
    });
  }

  /** To be called when the log is there; nothing may be asked before. */
  open(): void {
    this.#worker.postMessage({ kind: "open" } satisfies ReaderRequest);
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
    return new Promise((resolve) => {
      this.#worker.once("exit", () => resolve());
      this.#worker.postMessage({ kind: "close" } satisfies ReaderRequest);
    });
  }

  #ask<Answer>(question: Question): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const id = ++this.#last;
      this.#asked.set(id, { resolve, reject });
      this.#worker.postMessage({ ...question, id } satisfies ReaderRequest);
    });
  }
}
