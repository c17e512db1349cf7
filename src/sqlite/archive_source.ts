import Sqlite, { type Database } from "better-sqlite3";
import type { Archived, ArchiveSource } from "../engine/archives.ts";
import type { EventRow } from "../log/event.ts";
import { ARCHIVED, readArchived } from "./archive_facts.ts";
import { LogTimes } from "./log_times.ts";

/** Flags are read as text, because a number beyond 2^53 would be rounded. */
const ROWS = `
  SELECT seq, time_us, session, caller, cmd, map, fd, key, value, CAST(flags AS TEXT) AS flags, ret, errno, detail, attr, out
  FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`;
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const FACT = "SELECT value FROM ledger WHERE name = ?";

/** Rows of one read transaction. A long one would keep SQLite from copying the service's WAL into the database. */
const ROWS_AT_ONCE = 256;

/** Reads the log's rows for an archive job. */
export class SqliteArchiveSource implements ArchiveSource {
  readonly id: string;
  readonly possibleCpus: number;
  readonly #db: Database;

  /** Throws if the file does not exist. */
  constructor(file: string) {
    this.#db = new Sqlite(file, { readonly: true, fileMustExist: true });
    const fact = this.#db.prepare(FACT).pluck();
    this.id = fact.get("id") as string;
    this.possibleCpus = Number(fact.get("possible_cpus"));
  }

  get lastSeq(): number {
    return this.#db.prepare(LAST_SEQ).pluck().get() as number;
  }

  get archived(): Archived {
    return readArchived(this.#db.prepare(FACT).pluck().get(ARCHIVED) as string | undefined);
  }

  seqBefore(timeUs: number): number {
    return new LogTimes(this.#db).lastBefore(timeUs, { after: this.archived.through, until: this.lastSeq });
  }

  *rows(afterSeq: number, throughSeq: number): Iterable<EventRow> {
    const statement = this.#db.prepare(ROWS);
    for (let seq = afterSeq; ; ) {
      const rows = statement.all(seq, throughSeq, ROWS_AT_ONCE) as (EventRow & { flags: string })[];
      for (const row of rows) yield { ...row, flags: exact(row.flags) };
      if (rows.length < ROWS_AT_ONCE) return;
      seq = (rows.at(-1) as EventRow).seq;
    }
  }

  close(): void {
    this.#db.close();
  }
}

function exact(digits: string): number | bigint {
  return Number.isSafeInteger(Number(digits)) ? Number(digits) : BigInt(digits);
}
