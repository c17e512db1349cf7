import Sqlite, { type Database, type Statement } from "better-sqlite3";
import type { Archived } from "../engine/archives.ts";
import type { EventOrigin, PastLog } from "../engine/history.ts";
import { type Event, type EventRow, rowEvent } from "../log/event.ts";
import { ARCHIVED, readArchived } from "./archived.ts";
import { seqBefore } from "./moments.ts";

const AFTER = "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?";
const ORIGIN = "SELECT seq, time_us, session, caller, cmd FROM events WHERE seq = ?";
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const TIME_AT = "SELECT time_us FROM events WHERE seq = ?";
const FACT = "SELECT value FROM ledger WHERE name = ?";

/** Events that are read at once, and bytes of theirs after which there are fewer. */
const CHUNK_EVENTS = 4096;
const CHUNK_BYTES = 16 * 1024 * 1024;

/** The event log in SQLite, read beside the engine that writes it. */
export class SqlitePastLog implements PastLog {
  readonly #db: Database;
  readonly #after: Statement;
  readonly #origin: Statement;
  readonly #lastSeq: Statement;
  readonly #timeAt: Statement;
  readonly #facts: Statement;

  /** The log must exist. A connection that may only read would leave SQLite's -wal file behind when it is closed last. */
  constructor(file: string) {
    this.#db = new Sqlite(file, { fileMustExist: true });
    this.#after = this.#db.prepare(AFTER);
    this.#origin = this.#db.prepare(ORIGIN);
    this.#lastSeq = this.#db.prepare(LAST_SEQ).pluck();
    this.#facts = this.#db.prepare(FACT).pluck();
    this.#timeAt = this.#db.prepare(TIME_AT).pluck();
  }

  get id(): string {
    return this.#fact("id");
  }

  get possibleCpus(): number {
    return Number(this.#fact("possible_cpus"));
  }

  get archived(): Archived {
    return readArchived(this.#fact(ARCHIVED));
  }

  get archivedThrough(): number {
    return this.archived.through;
  }

  get lastSeq(): number {
    return this.#lastSeq.get() as number;
  }

  after(seq: number): Event[] {
    const events: Event[] = [];
    let bytes = 0;
    for (const row of this.#after.iterate(seq, CHUNK_EVENTS) as Iterable<EventRow>) {
      events.push(rowEvent(row));
      bytes += (row.key?.length ?? 0) + (row.value?.length ?? 0);
      if (bytes > CHUNK_BYTES) break;
    }
    return events;
  }

  origin(seq: number): EventOrigin {
    return this.#origin.get(seq) as EventOrigin;
  }

  /** Of a moment before the last archived event: some seq below that. */
  seqAt(timeUs: number): number {
    const { through, timeUs: archivedUs } = this.archived;
    if (timeUs < archivedUs) return Math.max(through - 1, 0);
    return seqBefore(this.#timeAt, this.lastSeq, timeUs + 1, through);
  }

  close(): void {
    this.#db.close();
  }

  #fact(name: string): string {
    return (this.#facts.get(name) as string | undefined) ?? "";
  }
}
