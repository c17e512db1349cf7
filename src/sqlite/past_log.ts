import Sqlite, { type Database, type Statement } from "better-sqlite3";
import type { Archived } from "../engine/archives.ts";
import type { Changes, EventOrigin, PastLog } from "../past/history.ts";
import { ARCHIVED, readArchived } from "./archive_facts.ts";
import { chunkEvents, readChunks } from "./changes.ts";
import { LIFE } from "./facts.ts";
import { LogTimes } from "./log_times.ts";

const ORIGIN = "SELECT seq, time_us, session, caller, cmd FROM events WHERE seq = ?";
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const FACT = "SELECT value FROM ledger WHERE name = ?";

/** The log as the past reads it, while the engine writes to it. */
export class SqlitePastLog implements PastLog {
  readonly #db: Database;
  readonly #origin: Statement;
  readonly #lastSeq: Statement;
  readonly #facts: Statement;
  readonly #times: LogTimes;

  /**
   * Throws if the file does not exist. The connection may write, because SQLite leaves the -wal file if a read-only
   * connection is the last to close.
   */
  constructor(file: string) {
    this.#db = new Sqlite(file, { fileMustExist: true });
    this.#origin = this.#db.prepare(ORIGIN);
    this.#lastSeq = this.#db.prepare(LAST_SEQ).pluck();
    this.#facts = this.#db.prepare(FACT).pluck();
    this.#times = new LogTimes(this.#db);
  }

  get id(): string {
    return this.#fact("id");
  }

  get life(): string {
    return this.#fact(LIFE);
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

  get atHandAfter(): number {
    return this.archivedThrough;
  }

  get lastSeq(): number {
    return this.#lastSeq.get() as number;
  }

  changesAfter(seq: number, last = this.lastSeq): Changes {
    for (const chunk of readChunks(this.#db, seq, last)) return { events: chunkEvents(chunk), until: chunk.until };
    return { events: [], until: seq };
  }

  origin(seq: number): EventOrigin {
    return this.#origin.get(seq) as EventOrigin;
  }

  /**
   * For a time before the last archived event, returns a seq below that event, which the caller then refuses as
   * archived.
   */
  seqAt(timeUs: number): number {
    const { through, timeUs: archivedUs } = this.archived;
    const seq = this.#times.lastBefore(timeUs + 1, { after: through, until: this.lastSeq });
    return seq === through && timeUs < archivedUs ? Math.max(through - 1, 0) : seq;
  }

  close(): void {
    this.#db.close();
  }

  #fact(name: string): string {
    return (this.#facts.get(name) as string | undefined) ?? "";
  }
}
