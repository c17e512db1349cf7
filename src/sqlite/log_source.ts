import { existsSync } from "node:fs";
import Sqlite, { type Database, type Statement } from "better-sqlite3";
import type { Archived } from "../engine/archives.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import { ledgerKey, Marks, parsePosition } from "../log/position.ts";
import type { Selection } from "../replay/selection.ts";
import type { Source } from "../replay/source.ts";
import { ARCHIVED, readArchived } from "./archive_facts.ts";
import { LIFE } from "./facts.ts";
import { WHOLE_ROW } from "./log_rows.ts";
import { LogTimes, type Stretch } from "./log_times.ts";

const READ = "SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?";
const FACT = "SELECT value FROM ledger WHERE name = ?";
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
/**
 * Events of one read transaction. No transaction stays open in between, so that the service can check its WAL into the
 * database.
 */
const CHUNK_EVENTS = 256;

/**
 * The log of a data directory as a source of replays, read only. A service may be writing to it; the source ends with
 * the event that was the last when it was opened.
 */
export class LogSource implements Source {
  readonly extent: { readonly total: number; readonly unit: "events" };
  done = 0;
  readonly id: string;
  readonly archived: Archived;
  readonly #life: string;
  readonly #db: Database;
  readonly #read: Statement<[number, number], EventRow>;

  /** Throws if the file does not exist. */
  constructor(file: string) {
    if (!existsSync(file)) throw new Error(`reading the log: ${file} does not exist`);
    this.#db = new Sqlite(file, { readonly: true, fileMustExist: true });
    this.#read = this.#db.prepare(READ);
    const fact = this.#db.prepare(FACT).pluck();
    this.id = fact.get("id") as string;
    this.#life = (fact.get(LIFE) as string | undefined) ?? "";
    this.archived = readArchived(fact.get(ARCHIVED) as string | undefined);
    this.extent = { total: this.#db.prepare(LAST_SEQ).pluck().get() as number, unit: "events" };
  }

  async check(text: string): Promise<void> {
    const position = parsePosition(text);
    const { log, life } = ledgerKey({ id: this.id, life: this.#life });
    const row = this.#db
      .prepare(WHOLE_ROW)
      .raw()
      .get(position?.seq ?? 0) as RowBytes | undefined;
    if (position === null || position.log !== log || position.life !== life)
      throw new Error("the position belongs to another log, or to another life of this log");
    if (row === undefined && position.seq > 0)
      throw new Error(`the log does not have event ${position.seq}, so the position cannot be checked`);
    if (row !== undefined && new Marks(this.#life).of(row) !== position.mark)
      throw new Error(`event ${position.seq} differs from the position's event: the log has another history`);
  }

  async *read({ afterSeq = 0 }: Pick<Selection, "afterSeq">): AsyncIterable<EventRow> {
    this.done = afterSeq;
    for (;;) {
      const rows = this.#read.all(this.done, CHUNK_EVENTS);
      for (const row of rows) {
        if (row.seq > this.extent.total) return;
        yield row;
        this.done = row.seq;
      }
      if (rows.length === 0) return;
    }
  }

  /** Finds only events that are not archived. */
  async between(sinceUs: number | undefined, untilUs: number | undefined): Promise<Stretch> {
    const within = { after: this.archived.through, until: this.extent.total };
    return new LogTimes(this.#db).between(sinceUs, untilUs, within);
  }

  close(): void {
    this.#db.close();
  }
}
