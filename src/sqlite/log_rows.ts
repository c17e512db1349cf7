import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { KeptEntries, LogRows } from "../tree/ports.ts";
import { ARCHIVED, ARCHIVED_ENTRIES, readArchived, readEntries } from "./archive_facts.ts";
import { CHECKPOINT, LIFE, LOG_ID, POSSIBLE_CPUS } from "./facts.ts";

/**
 * Bytes in hex cost a third of what a Buffer each does (measured); beyond so many a column is read as it is, in a row by
 * itself. Texts are cast, so that what is stored is hashed, and not what a decoder makes of it.
 */
const HEX_BYTES_MAX = 4096;
/** Numbers end there: what is larger comes as digits. */
const INTEGER_MAX = Number.MAX_SAFE_INTEGER;
/** What stands for a column that is too large for that: no hex, and no digits. */
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
/** One row, each text as the bytes that are stored. */
export const WHOLE_ROW = `${select(whole)} WHERE seq = ?`;
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const BEFORE_FIRST = "SELECT count(*) FROM events WHERE seq < 1";
const OTHERS = `SELECT count(*) FROM events WHERE seq > ? AND seq <= ? AND cmd != ${CMD.CHECKPOINT}`;
const FACT = "SELECT value FROM ledger WHERE name = ?";
const FACTS = "SELECT name, value FROM ledger";
const OLDEST = "SELECT min(seq) FROM events WHERE seq >= 1";

/** Read at once: more of them cost more each. */
const ROWS_AT_ONCE = 256;

/** The same rows, of a log of which no event tells of a checkpoint: of a tree that is to become what the log says. */
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

/** A log as of one moment, whatever is written to it meanwhile. */
export interface LogMoment {
  readonly lastSeq: number;
  /** Of the first row that there is; null: there is none. */
  readonly oldestSeq: number | null;
  readonly facts: ReadonlyMap<string, string>;
}

/** The log's rows for those who hash them. */
export class SqliteLogRows implements LogRows {
  readonly id: string;
  readonly possibleCpus: string;
  readonly life: string;
  readonly #db: Database;
  readonly #rows: Statement;
  readonly #wholeRow: Statement;
  readonly #last: Statement;
  readonly #others: Statement;

  /** The log must exist. One that may only be read leaves SQLite's -wal file behind when it is closed last. */
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

  /** Rows in front of the first event: no log has any. */
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

  /** A fact of the ledger; "": it says none. */
  fact(name: string): string {
    return (this.#db.prepare(FACT).pluck().get(name) as string | undefined) ?? "";
  }
}
