/** Reads the log's rows as stored bytes, for their canonical form (log/canonical.ts) and hashes. */

import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { KeptEntries, LogRows } from "../tree/ports.ts";
import { ARCHIVED, ARCHIVED_ENTRIES, readArchived, readEntries } from "./archive_facts.ts";
import { CHECKPOINT, LIFE, LOG_ID, POSSIBLE_CPUS } from "./facts.ts";

/**
 * A column of bytes is read as hex, which costs a third of a Buffer for each column (measured). A column with more
 * bytes than this is read in a row by itself. Texts are cast to BLOBs, so that the stored bytes are hashed and not the
 * result of decoding them.
 */
const HEX_BYTES_MAX = 4096;
/** An integer beyond this is read as a string of digits. */
const INTEGER_MAX = Number.MAX_SAFE_INTEGER;
/** Marks a column with more bytes than HEX_BYTES_MAX; it is neither hex nor digits. */
const LARGE = "*";

const integer = (column: string): string =>
  `CASE WHEN ${column} BETWEEN -${INTEGER_MAX} AND ${INTEGER_MAX} THEN ${column} ELSE CAST(${column} AS TEXT) END`;
const hex = (column: string): string =>
  `CASE WHEN ${column} IS NULL THEN NULL WHEN octet_length(${column}) > ${HEX_BYTES_MAX} THEN '${LARGE}' ELSE hex(${column}) END`;
const whole = (column: string): string => `CAST(${column} AS BLOB)`;

const select = (bytes: (column: string) => string): string => `
  SELECT
    ${integer("seq")}, ${integer("time_us")}, ${integer("session")}, ${bytes("caller")}, ${integer("cmd")},
    ${integer("map")}, ${integer("fd")}, ${bytes("key")}, ${bytes("value")}, ${integer("flags")}, ${integer("ret")},
    ${integer("errno")}, ${bytes("detail")}, ${bytes("attr")}, ${bytes("out")}
  FROM events`;
const ROWS = `${select(hex)} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`;
/** One row; all texts and blobs are Buffers with the stored bytes. */
export const WHOLE_ROW = `${select(whole)} WHERE seq = ?`;
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const BEFORE_FIRST = "SELECT count(*) FROM events WHERE seq < 1";
const OTHERS = `SELECT count(*) FROM events WHERE seq > ? AND seq <= ? AND cmd != ${CMD.CHECKPOINT}`;
const FACT = "SELECT value FROM ledger WHERE name = ?";
const FACTS = "SELECT name, value FROM ledger";
const OLDEST = "SELECT min(seq) FROM events WHERE seq >= 1";

/** Rows of one query: with more, each row costs more. */
const ROWS_AT_ONCE = 256;

/**
 * The log without its recorded checkpoints: for a tree that is rebuilt to match the log, and must not be refused
 * because of them.
 */
export function unrecorded(log: LogRows): LogRows {
  return {
    id: log.id,
    possibleCpus: log.possibleCpus,
    life: log.life,
    lastSeq: () => log.lastSeq(),
    archivedThrough: () => log.archivedThrough(),
    archivedEntries: () => log.archivedEntries(),
    rows: (afterSeq, untilSeq) => log.rows(afterSeq, untilSeq),
    others: () => 0,
    recorded: () => "",
    close: () => log.close(),
  };
}

/** A log as of one moment, even if another process writes to it. */
export interface LogMoment {
  readonly lastSeq: number;
  /** The first row's seq; null if the log has no rows. */
  readonly oldestSeq: number | null;
  readonly facts: ReadonlyMap<string, string>;
}

export class SqliteLogRows implements LogRows {
  readonly id: string;
  readonly possibleCpus: string;
  readonly life: string;
  readonly #db: Database;
  readonly #rows: Statement;
  readonly #wholeRow: Statement;
  readonly #last: Statement;
  readonly #others: Statement;

  /**
   * Throws if the file does not exist. If a read-only connection is the last to close, SQLite leaves the -wal file.
   */
  constructor(file: string, readonly: boolean) {
    this.#db = new Sqlite(file, { readonly, fileMustExist: true });
    this.#rows = this.#db.prepare(ROWS).raw();
    this.#wholeRow = this.#db.prepare(WHOLE_ROW).raw();
    this.#last = this.#db.prepare(LAST_SEQ).pluck();
    this.#others = this.#db.prepare(OTHERS).pluck();
    this.id = this.fact(LOG_ID);
    this.possibleCpus = this.fact(POSSIBLE_CPUS);
    this.life = this.fact(LIFE);
  }

  /** Counts rows with a seq below 1, which no log has. */
  beforeFirst(): number {
    return this.#db.prepare(BEFORE_FIRST).pluck().get() as number;
  }

  moment(): LogMoment {
    return this.#db.transaction(() => {
      const facts = this.#db.prepare(FACTS).raw().all() as [name: string, value: string][];
      const oldestSeq = this.#db.prepare(OLDEST).pluck().get() as number | null;
      return { lastSeq: this.lastSeq(), oldestSeq, facts: new Map(facts) };
    })();
  }

  lastSeq(): number {
    return this.#last.get() as number;
  }

  archivedThrough(): number {
    return readArchived(this.fact(ARCHIVED)).through;
  }

  archivedEntries(): KeptEntries {
    return readEntries(this.fact(ARCHIVED_ENTRIES));
  }

  *rows(afterSeq: number, untilSeq: number): Iterable<RowBytes> {
    for (let seq = afterSeq; ; ) {
      const rows = this.#rows.all(seq, untilSeq, ROWS_AT_ONCE) as RowBytes[];
      for (const row of rows) yield row.includes(LARGE) ? this.#whole(row) : row;
      if (rows.length < ROWS_AT_ONCE) return;
      seq = Number((rows.at(-1) as RowBytes)[0]);
    }
  }

  others(afterSeq: number, untilSeq: number): number {
    return this.#others.get(afterSeq, untilSeq) as number;
  }

  recorded(): string {
    return this.fact(CHECKPOINT);
  }

  close(): void {
    this.#db.close();
  }

  #whole(row: RowBytes): RowBytes {
    return this.#wholeRow.get(BigInt(row[0])) as RowBytes;
  }

  /** A fact of the ledger; "" if it is not set. */
  fact(name: string): string {
    return (this.#db.prepare(FACT).pluck().get(name) as string | undefined) ?? "";
  }
}
