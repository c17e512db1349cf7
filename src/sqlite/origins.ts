import Sqlite, { type Database, type Statement } from "better-sqlite3";
import type { EventOrigin } from "../past/history.ts";

const TABLES = `
  CREATE TABLE IF NOT EXISTS log (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS origins (
    seq INTEGER PRIMARY KEY, time_us INTEGER NOT NULL, session INTEGER NOT NULL, caller TEXT NOT NULL, cmd INTEGER NOT NULL
  ) STRICT`;
const REACHED = "SELECT seq FROM log WHERE id = ?";
const SET_REACHED = "INSERT OR REPLACE INTO log (id, seq) VALUES (?, ?)";
const ADD = `
  INSERT OR REPLACE INTO origins (seq, time_us, session, caller, cmd) VALUES (:seq, :time_us, :session, :caller, :cmd)`;
const GET = "SELECT seq, time_us, session, caller, cmd FROM origins WHERE seq = ?";

/**
 * The session, caller and time of archived commands that may have changed the state. History answers include them, and
 * would otherwise have to unpack an archive.
 */
export class Origins {
  readonly #db: Database;
  readonly #log: string;
  readonly #get: Statement;

  constructor(file: string, log: string) {
    this.#db = new Sqlite(file);
    this.#db.pragma("journal_mode = WAL");
    this.#db.pragma("synchronous = NORMAL");
    this.#db.exec(TABLES);
    this.#log = log;
    this.#get = this.#db.prepare(GET);
  }

  /** The last event that was added; 0 if there is none, or if the file belongs to another log. */
  get reached(): number {
    return (this.#db.prepare(REACHED).pluck().get(this.#log) as number | undefined) ?? 0;
  }

  add(rows: readonly EventOrigin[], through: number): void {
    const add = this.#db.prepare(ADD);
    this.#db.transaction(() => {
      for (const { seq, time_us, session, caller, cmd } of rows) add.run({ seq, time_us, session, caller, cmd });
      this.#db.prepare(SET_REACHED).run(this.#log, through);
    })();
  }

  get(seq: number): EventOrigin | undefined {
    return this.#get.get(seq) as EventOrigin | undefined;
  }

  close(): void {
    this.#db.close();
  }
}
