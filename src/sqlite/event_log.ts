/**
 * The event log in SQLite. A batch of events is durable when `append` returns: the database is in WAL mode with
 * synchronous=FULL, and its commit is the point at which commands count as done.
 */

import { randomUUID } from "node:crypto";
import { statSync } from "node:fs";
import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { LOG_FILE } from "../data/layout.ts";
import type { Archived } from "../engine/archives.ts";
import { type EventLog, LogUncertain } from "../engine/ports.ts";
import { CanonicalWriter, type RowBytes } from "../log/canonical.ts";
import { type Event, type EventRow, eventRow, rowEvent } from "../log/event.ts";
import { ARCHIVED, ARCHIVED_ENTRIES, addEntries, readArchived } from "./archive_facts.ts";
import { chunkEvents, readChunks } from "./changes.ts";
import { readChunksAhead } from "./changes_ahead.ts";
import { DATABASES } from "./databases.ts";
import { factsOf, LIFE, LOG_ID, POSSIBLE_CPUS } from "./facts.ts";
import { WHOLE_ROW } from "./log_rows.ts";
import { migrate } from "./migrate.ts";
import { foreignSchema, schemaFindings } from "./schema_check.ts";
import { settleWal } from "./settle_wal.ts";

const MIGRATIONS = DATABASES[LOG_FILE];

const INSERT = `
  INSERT INTO events (seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;
/** For rows without detail, attr and out, which are most rows: binding a NULL costs as much as binding a value. */
const INSERT_PLAIN = `
  INSERT INTO events (seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno)
  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`;
const READ_AFTER = "SELECT * FROM events WHERE seq > ? ORDER BY seq";
const LAST = "SELECT seq, time_us FROM events ORDER BY seq DESC LIMIT 1";
const NAME_COMMAND = "INSERT OR REPLACE INTO commands (cmd, name) VALUES (?, ?)";
const NAMED_COMMANDS = "SELECT cmd, name FROM commands";
const NAMED_ERRORS = "SELECT errno, name FROM errors";
const NAME_ERROR = "INSERT OR REPLACE INTO errors (errno, name) VALUES (?, ?)";
const GET_FACT = "SELECT value FROM ledger WHERE name = ?";
const SET_FACT = "INSERT INTO ledger (name, value) VALUES (?, ?)";
const REPLACE_FACT = "INSERT OR REPLACE INTO ledger (name, value) VALUES (?, ?)";
const OLDEST = "SELECT coalesce(min(seq), 0) FROM events";
const DELETE = "DELETE FROM events WHERE seq BETWEEN ? AND ?";

/**
 * Entries of the schema that somebody may have added for queries of their own. A trigger is not among them, because it
 * changes what is written.
 */
const MAY_BE_ADDED: ReadonlySet<string> = new Set(["index", "table", "view"]);

/** If a replay has this many events, another thread reads them ahead. */
const THREAD_EVENTS = 20_000;

const PAGE_BYTES = 4096;
/** A start checks all pages of a log that has at most this many bytes; it takes a millisecond for each MiB. */
const CHECKED_BYTES = 64 * 1024 * 1024;

/**
 * Findings about the schema of a log's file, for example in a backup: entries, such as triggers, that would make a
 * write do something else.
 */
export function logSchemaFindings(file: string): string[] {
  return schemaFindings(file, MIGRATIONS, MAY_BE_ADDED);
}

export class SqliteEventLog implements EventLog {
  /** The log's id, made with the log. */
  readonly id: string;
  /** The life of the ledger. Ledgers restored from backups of the same log have its id, but each has another life. */
  readonly life: string;
  /** Called before the first write, and then set to null. */
  beforeFirst: (() => void) | null = null;
  readonly #db: Database;
  readonly #insert: Statement;
  readonly #insertPlain: Statement;
  readonly #begin: Statement;
  readonly #commit: Statement;
  readonly #canonical = new CanonicalWriter();
  #lastSeq: number;
  #lastTimeUs: number;
  #archived: Archived;
  /** The log's files, with the inodes that this connection writes to. */
  readonly #files: readonly (readonly [file: string, inode: number])[];
  /** The first row that the log still has: archived rows are removed in steps. */
  #oldestRow: number;

  constructor(file: string) {
    this.#db = new Sqlite(file);
    this.#db.pragma("journal_mode = WAL");
    this.#db.pragma("synchronous = FULL");
    this.#checkSchema(file);
    settleWal(this.#db);
    migrate(this.#db, MIGRATIONS);
    this.#checkPages(file);
    this.id = this.#uuid(LOG_ID);
    this.life = this.#uuid(LIFE);
    this.#writeNames();
    this.#insert = this.#db.prepare(INSERT);
    this.#insertPlain = this.#db.prepare(INSERT_PLAIN);
    this.#begin = this.#db.prepare("BEGIN IMMEDIATE");
    this.#commit = this.#db.prepare("COMMIT");
    const last = this.#db.prepare(LAST).get() as { seq: number; time_us: number } | undefined;
    this.#lastSeq = last?.seq ?? 0;
    this.#lastTimeUs = last?.time_us ?? 0;
    this.#archived = readArchived(this.#db.prepare(GET_FACT).pluck().get(ARCHIVED) as string | undefined);
    this.#oldestRow = this.#db.prepare(OLDEST).pluck().get() as number;
    const files = this.#db.memory ? [] : [file, `${file}-wal`];
    this.#files = files.map((name) => [name, inodeOf(name)]);
  }

  /** Throws if the schema has an entry that would make a write do something else. */
  #checkSchema(file: string): void {
    const [wrong] = foreignSchema(this.#db, MIGRATIONS, MAY_BE_ADDED);
    if (wrong === undefined) return;
    this.#db.close();
    throw new Error(`opening ${file}: ${wrong}`);
  }

  /**
   * Throws if a page of the events' table is damaged: otherwise new events would be appended to a log whose past cannot
   * be read. A log of more than CHECKED_BYTES is not checked here, because the check would delay the start; `mapledger
   * verify` checks it.
   */
  #checkPages(file: string): void {
    const bytes = Number(this.#db.pragma("page_count", { simple: true })) * PAGE_BYTES;
    if (bytes > CHECKED_BYTES) return;
    const found = this.#db.pragma("quick_check(events)", { simple: true });
    if (found === "ok") return;
    this.#db.close();
    throw new Error(
      `opening ${file}: the log is damaged (${found}): restore it from a backup (mapledger restore-backup); mapledger verify shows ` +
        "which events can be read",
    );
  }

  /**
   * The number of CPUs that per-CPU values have room for. The first start writes it to the log; from then on it cannot
   * change. Throws if the setting (0: not set) differs from the log's number, because recorded values would have
   * another size.
   */
  possibleCpus(setting: number, machine: number): number {
    const kept = this.#db.prepare(GET_FACT).pluck().get(POSSIBLE_CPUS) as string | undefined;
    if (kept === undefined) {
      const cpus = setting === 0 ? machine : setting;
      this.#db.prepare(SET_FACT).run(POSSIBLE_CPUS, String(cpus));
      return cpus;
    }
    if (setting !== 0 && setting !== Number(kept))
      throw new Error(`MAPLEDGER_CPUS is ${setting}: this log's per-CPU values are for ${kept} CPUs`);
    return Number(kept);
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  get lastTimeUs(): number {
    return this.#lastTimeUs;
  }

  get archived(): Archived {
    return this.#archived;
  }

  append(events: readonly Event[]): void {
    const facts: (readonly [name: string, value: string])[] = [];
    for (const { command } of events) for (const fact of factsOf(command)) facts.push(fact);
    this.#durably("appending to the log", () => {
      for (const event of events) this.#append(eventRow(event));
      for (const [name, value] of facts) this.#db.prepare(REPLACE_FACT).run(name, value);
    });
    const last = events.at(-1) as Event;
    this.#lastSeq = last.seq;
    this.#lastTimeUs = last.command.timeUs;
    const archived = facts.findLast(([name]) => name === ARCHIVED);
    if (archived !== undefined) this.#archived = readArchived(archived[1]);
  }

  /**
   * Removes at most `limit` archived events, durably, and returns whether any are left. Entries of events that share
   * their entry bundle with events that are not archived are kept, so that the bundle stays available (tlog-tiles,
   * "Pruning").
   */
  deleteArchived(limit: number): boolean {
    const { through } = this.#archived;
    if (this.#oldestRow > through) return false;
    const until = Math.min(this.#oldestRow + limit - 1, through);
    this.#durably("removing archived events", () => {
      this.#keepEntries(until);
      this.#db.prepare(DELETE).run(this.#oldestRow, until);
    });
    this.#oldestRow = until + 1;
    return until < through;
  }

  /** Runs `write` in one transaction. Throws LogUncertain if nobody knows whether the disk has the transaction. */
  #durably(doing: string, write: () => void): void {
    let committing = false;
    try {
      this.beforeFirst?.();
      this.beforeFirst = null;
      this.#begin.run();
      write();
      committing = true;
      this.#commit.run();
      const missing = this.missing();
      if (missing !== null) throw new Error(missing);
    } catch (error) {
      // SQLite may have rolled back already if the disk is full.
      if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
      throw mayBeWritten((error as { code?: string }).code, committing) ? new LogUncertain(doing, error) : error;
    }
  }

  /** Files that were removed or replaced still accept commits, but the commits are lost when the process ends. */
  missing(): string | null {
    for (const [file, inode] of this.#files)
      if (inodeOf(file) !== inode) return `${file} was removed, or replaced by another file`;
    return null;
  }

  #keepEntries(until: number): void {
    const row = this.#db.prepare(WHOLE_ROW).raw();
    const entryOf = (seq: number): Buffer => Buffer.from(this.#canonical.entry(row.get(seq) as RowBytes));
    const known = this.#db.prepare(GET_FACT).pluck().get(ARCHIVED_ENTRIES) as string | undefined;
    const kept = addEntries(known ?? "", { from: this.#oldestRow, until, through: this.#archived.through }, entryOf);
    if (kept !== null) this.#db.prepare(REPLACE_FACT).run(ARCHIVED_ENTRIES, kept);
  }

  #append(row: EventRow): void {
    const { seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out } = row;
    if (detail === null && attr === null && out === null)
      this.#insertPlain.run(seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno);
    else
      this.#insert.run(seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out);
  }

  *read(afterSeq: number): Iterable<Event> {
    const rows = this.#db.prepare(READ_AFTER).iterate(afterSeq) as Iterable<EventRow>;
    for (const row of rows) yield rowEvent(row);
  }

  async *changes(afterSeq: number): AsyncIterable<readonly Event[]> {
    const { name, memory } = this.#db;
    const isLong = !memory && this.#lastSeq - afterSeq >= THREAD_EVENTS;
    const chunks = isLong
      ? readChunksAhead({ file: name, afterSeq, lastSeq: this.#lastSeq })
      : readChunks(this.#db, afterSeq, this.#lastSeq);
    for await (const chunk of chunks) yield chunkEvents(chunk);
  }

  /** SHA-256 of an event's canonical bytes, from its stored columns; null if the log does not have the event. */
  hashOf(seq: number): Buffer | null {
    const row = this.#db.prepare(WHOLE_ROW).raw().get(seq) as RowBytes | undefined;
    return row === undefined ? null : this.#canonical.hash(row);
  }

  close(): void {
    this.#db.close();
  }

  /** Reads a fact, or sets it to a random UUID if it is not set. */
  #uuid(name: string): string {
    const known = this.#db.prepare(GET_FACT).pluck().get(name) as string | undefined;
    if (known !== undefined) return known;
    const made = randomUUID();
    this.#db.prepare(SET_FACT).run(name, made);
    return made;
  }

  /** Writes only names that are missing, so that a log on a full disk can be opened. */
  #writeNames(): void {
    for (const [names, known, write] of [
      [CMD, NAMED_COMMANDS, NAME_COMMAND],
      [ERRNO, NAMED_ERRORS, NAME_ERROR],
    ] as const) {
      const there = new Map(this.#db.prepare(known).raw().all() as [number, string][]);
      const missing = Object.entries(names).filter(([name, number]) => there.get(number) !== name);
      if (missing.length === 0) continue;
      const statement = this.#db.prepare(write);
      this.#db.transaction(() => {
        for (const [name, number] of missing) statement.run(number, name);
      })();
    }
  }
}

/** Returns 0 if the file does not exist. */
function inodeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.ino ?? 0;
}

/**
 * Whether a failed transaction may still be in the log. If a frame could not be written to the -wal file, the
 * transaction is incomplete and never counts. The sync and the update of the -shm file come after the last frame: if
 * one of them fails, a recovery may find the transaction or may not.
 */
function mayBeWritten(code: string | undefined, committing: boolean): boolean {
  if (code?.endsWith("FSYNC") === true) return true;
  return committing && code !== "SQLITE_FULL" && code !== "SQLITE_IOERR_WRITE";
}
