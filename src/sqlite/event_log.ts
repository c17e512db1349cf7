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
/** For rows that have no more to say, which are most: NULLs that are bound cost as much as values. */
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

/** What somebody may have added for queries of his own. A trigger changes what is written. */
const MAY_BE_ADDED: ReadonlySet<string> = new Set(["index", "table", "view"]);

/** From so many events on a thread of its own reads them ahead. */
const THREAD_EVENTS = 20_000;

const PAGE_BYTES = 4096;
/** A log of up to so many bytes is checked page by page at a start: a millisecond a MiB. */
const CHECKED_BYTES = 64 * 1024 * 1024;

/** What is in a log's file, of a backup say, by which writing to it might do something else than to write. */
export function logSchemaFindings(file: string): string[] {
  return schemaFindings(file, MIGRATIONS, MAY_BE_ADDED);
}

/** The event log in SQLite: WAL, and synchronous=FULL, so that a commit has reached the disk when it returns. */
export class SqliteEventLog implements EventLog {
  /** Which log this is, for good: made with it. */
  readonly id: string;
  /** Which of the ledgers that have this log: a copy that was restored from a backup has another one. */
  readonly life: string;
  /** What must have been done before anything is written; null: it has been. */
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
  /** Its files, by the inodes that are written to. */
  readonly #files: readonly (readonly [file: string, inode: number])[];
  /** The first row there is: archived ones go bit by bit. */
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

  /** Throws where writing to it might do something else than to write. */
  #checkSchema(file: string): void {
    const [wrong] = foreignSchema(this.#db, MIGRATIONS, MAY_BE_ADDED);
    if (wrong === undefined) return;
    this.#db.close();
    throw new Error(`opening ${file}: ${wrong}`);
  }

  /**
   * Throws if a page of the events' table is damaged: commands would go on being written to a file whose past cannot be read. A larger log
   * is checked by `mapledger verify` alone, because a start would wait for its disk.
   */
  #checkPages(file: string): void {
    const bytes = Number(this.#db.pragma("page_count", { simple: true })) * PAGE_BYTES;
    if (bytes > CHECKED_BYTES) return;
    const found = this.#db.pragma("quick_check(events)", { simple: true });
    if (found === "ok") return;
    this.#db.close();
    throw new Error(
      `opening ${file}: the log is damaged (${found}): put it back from a backup (mapledger restore-backup); mapledger verify tells ` +
        "which events can be read",
    );
  }

  /**
   * For how many CPUs per-CPU values are: as the log says, once it does. Throws where the setting (0: none) says
   * otherwise: values that are in the log would not fit.
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
    const facts = events.flatMap(({ command }) => factsOf(command));
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
   * Removes archived events, at most `limit`, durably; answers whether any are left. Of those whose entry bundle has events that are
   * not archived, the entries stay: the bundle can be had whole (tlog-tiles, "Pruning").
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

  /** In one transaction. Throws LogUncertain where it is not known whether the disk has it. */
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
      // A full disk may have rolled back already.
      if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
      throw mayBeWritten((error as { code?: string }).code, committing) ? new LogUncertain(doing, error) : error;
    }
  }

  /** Files that have been removed, or replaced, go on taking commits, and are gone with the process. */
  missing(): string | null {
    for (const [file, inode] of this.#files)
      if (inodeOf(file) !== inode) return `${file} was removed, or is another file than the one that is written to`;
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

  /** SHA-256 of an event's canonical bytes, from its columns as they are stored; null: the log does not have it. */
  hashOf(seq: number): Buffer | null {
    const row = this.#db.prepare(WHOLE_ROW).raw().get(seq) as RowBytes | undefined;
    return row === undefined ? null : this.#canonical.hash(row);
  }

  close(): void {
    this.#db.close();
  }

  /** A fact that is made at random when there is none yet. */
  #uuid(name: string): string {
    const known = this.#db.prepare(GET_FACT).pluck().get(name) as string | undefined;
    if (known !== undefined) return known;
    const made = randomUUID();
    this.#db.prepare(SET_FACT).run(name, made);
    return made;
  }

  /** Only what is not there yet: a disk that is full keeps no log from being opened. */
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

/** 0: there is no such file. */
function inodeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.ino ?? 0;
}

/**
 * A frame that could not be written ends no transaction in the -wal file; behind the last one there come the sync and the -shm file, and what
 * fails there leaves a transaction that a recovery finds, or does not.
 */
function mayBeWritten(code: string | undefined, committing: boolean): boolean {
  if (code?.endsWith("FSYNC") === true) return true;
  return committing && code !== "SQLITE_FULL" && code !== "SQLITE_IOERR_WRITE";
}
