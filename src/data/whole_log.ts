/**
 * A log from its first event on, archived ones included, for the history of `whole/`. The second thread of the past
 * folds it once, and notes in `whole.sqlite` who sent each archived command, so that no archive has to be unpacked to
 * name the sender of a version.
 */

import { join } from "node:path";
import { EventsArchived } from "../engine/archives.ts";
import { type EventRow, rowEvent } from "../log/event.ts";
import type { Changes, EventOrigin, PastLog } from "../past/history.ts";
import { Origins } from "../sqlite/origins.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { ArchivedLog } from "./archived_log.ts";
import { SENDERS_FILE } from "./layout.ts";

/** Reads archived events from their archive, once and in order, and later ones from the log. */
export class WholeLog implements PastLog {
  /** 0, because this log includes the archived events. */
  readonly archivedThrough = 0;
  readonly #archived: ArchivedLog;
  readonly #origins: Origins;
  #reading: Reading | null = null;

  constructor(archived: ArchivedLog, { data }: { readonly data: string }) {
    this.#archived = archived;
    this.#origins = new Origins(join(data, SENDERS_FILE), archived.log.id);
  }

  get atHandAfter(): number {
    return this.#archived.log.archivedThrough;
  }

  get lastSeq(): number {
    return this.#archived.log.lastSeq;
  }

  /** The last archived event whose sender is known. */
  get origins(): number {
    return this.#origins.reached;
  }

  async changesAfter(seq: number, last?: number): Promise<Changes> {
    const { log } = this.#archived;
    if (seq < log.archivedThrough) return this.#archivedAfter(seq);
    const changes = log.changesAfter(seq, last);
    // Checked again after the read, because events may have been archived during it.
    return seq < log.archivedThrough ? this.#archivedAfter(seq) : changes;
  }

  origin(seq: number): EventOrigin {
    const known = this.#origins.get(seq) ?? this.#archived.log.origin(seq);
    if (known === undefined) throw new EventsArchived(this.#archived.log.archivedThrough + 1);
    return known;
  }

  seqAt(timeUs: number): number {
    return this.#archived.log.seqAt(timeUs);
  }

  async close(): Promise<void> {
    await this.#reading?.rows.return(undefined);
    this.#origins.close();
    this.#archived.close();
  }

  async #archivedAfter(seq: number): Promise<Changes> {
    const rows = await this.#rowsAfter(seq);
    const until = (rows.at(-1) as EventRow).seq;
    const changing = rows.filter(({ cmd }) => commandFacts(cmd)?.changesState !== false);
    this.#origins.add(changing, until);
    return { events: changing.map(rowEvent), until };
  }

  async #rowsAfter(seq: number): Promise<readonly EventRow[]> {
    for (;;) {
      const reading = await this.#readingAt(seq);
      const { value, done } = await reading.rows.next();
      if (done === true || value === undefined) {
        this.#reading = null;
        continue;
      }
      const rows = value.filter((row) => row.seq > seq);
      reading.at = (value.at(-1) as EventRow).seq;
      if (rows.length > 0) return rows;
    }
  }

  /** The reading that has come to event `seq`: the present one, or a new one, for which the present one is closed. */
  async #readingAt(seq: number): Promise<Reading> {
    if (this.#reading?.at === seq) return this.#reading;
    await this.#reading?.rows.return(undefined);
    const segment = this.#archived.segmentOf(seq + 1);
    await this.#archived.check(segment);
    this.#reading = { rows: this.#archived.rows(segment), at: seq };
    return this.#reading;
  }
}

interface Reading {
  readonly rows: AsyncGenerator<readonly EventRow[], undefined>;
  /** The last event that was read. */
  at: number;
}
