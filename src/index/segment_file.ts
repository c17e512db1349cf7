/**
 * A segment of an archive, unpacked into a database of its own, so that it is read as the log is. It has no index: a
 * segment is small enough to be read as a whole.
 */

import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import { LOG_FILE } from "../data/layout.ts";
import type { EventPage, EventRange } from "../engine/events.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import { type EventFilter, matches } from "../log/event_filter.ts";
import { effectsIn, touchedKeys } from "../log/event_subjects.ts";
import { DATABASES } from "../sqlite/databases.ts";
import { WHOLE_ROW } from "../sqlite/log_rows.ts";
import { LogTimes, type Stretch } from "../sqlite/log_times.ts";
import { migrate } from "../sqlite/migrate.ts";
import { Page } from "./page.ts";

const INSERT = `
  INSERT INTO events (seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out)
  VALUES (:seq, :time_us, :session, :caller, :cmd, :map, :fd, :key, :value, :flags, :ret, :errno, :detail, :attr, :out)`;
const SET_FACT = "INSERT OR REPLACE INTO ledger (name, value) VALUES (?, ?)";
const EVENT = "SELECT * FROM events WHERE seq = ?";
const UPWARDS = "SELECT * FROM events WHERE seq > ? AND seq <= ? ORDER BY seq";
const DOWNWARDS = "SELECT * FROM events WHERE seq > ? AND seq <= ? ORDER BY seq DESC";
const EARLIEST = "SELECT min(time_us) FROM events";
const OPENINGS = `SELECT attr, out FROM events WHERE cmd = ${CMD.SESSION_OPEN} AND errno = 0 ORDER BY seq`;
const CREATIONS = `SELECT map, attr FROM events WHERE cmd = ${CMD.BPF_MAP_CREATE} AND map != 0`;

/** A page of events without marks. */
export type FoundPage = Omit<EventPage, "rows" | "mark"> & { readonly rows: readonly EventRow[] };

/** The events of a segment, unpacked to a temporary file. They are read as the log is, without an index. */
export class SegmentFile {
  readonly first: number;
  readonly through: number;
  readonly #db: Database;
  readonly #times: LogTimes;
  readonly #insert: Statement;

  /** Makes a file without events. */
  constructor(file: string, { first, through }: { readonly first: number; readonly through: number }) {
    this.first = first;
    this.through = through;
    this.#db = new Sqlite(file);
    this.#db.pragma("journal_mode = OFF");
    this.#db.pragma("synchronous = OFF");
    this.#db.pragma("locking_mode = EXCLUSIVE");
    migrate(this.#db, DATABASES[LOG_FILE]);
    this.#times = new LogTimes(this.#db);
    this.#insert = this.#db.prepare(INSERT);
  }

  /** Adds events. Throws if a row is not one that a log can have. */
  add(rows: readonly EventRow[]): void {
    this.#db.transaction(() => {
      for (const row of rows) this.#insert.run(row);
    })();
  }

  /** Sets a fact of the log, for callers that make a log of this file. */
  setFact(name: string, value: string): void {
    this.#db.prepare(SET_FACT).run(name, value);
  }

  /** The time of the earliest event, which need not be the first. */
  get earliestUs(): number {
    return this.#db.prepare(EARLIEST).pluck().get() as number;
  }

  /** Sizes of the keys of maps that were created here. */
  *keySizes(): Iterable<readonly [map: number, bytes: number]> {
    for (const { map, attr } of this.#db.prepare(CREATIONS).all() as Pick<EventRow, "map" | "attr">[])
      yield [map, JSON.parse(attr ?? "{}").key_size];
  }

  /** Sessions that were opened here, ascending, with their peers; null: the opening event has none. */
  *peers(): Iterable<readonly [session: number, peer: string | null]> {
    for (const row of this.#db.prepare(OPENINGS).all() as Pick<EventRow, "attr" | "out">[]) {
      const { peer = null } = JSON.parse(row.attr ?? "{}");
      const session = effectsIn(row)?.session_id;
      if (session !== undefined) yield [session, peer];
    }
  }

  /** The last event that is stamped before a moment; `first - 1` if there is none. */
  lastBefore(timeUs: number): number {
    return this.#times.lastBefore(timeUs, { after: this.first - 1, until: this.through });
  }

  event(seq: number): EventRow | null {
    return (this.#db.prepare(EVENT).get(seq) as EventRow | undefined) ?? null;
  }

  /** An event's columns as they are stored. */
  row(seq: number): RowBytes | null {
    return (this.#db.prepare(WHOLE_ROW).raw().get(seq) as RowBytes | undefined) ?? null;
  }

  /** As EventReader has it, for the events of a stretch. `more`: the stretch was not examined to its end. */
  query(
    filter: EventFilter,
    { beforeSeq, limit }: Pick<EventRange, "beforeSeq" | "limit">,
    { after, until }: Stretch,
    keySizeOf: (map: number) => number | undefined,
  ): FoundPage {
    const backward = beforeSeq !== undefined;
    const from = Math.max(after, this.first - 1);
    const to = Math.min(until, this.through);
    const page = new Page(limit);
    let more = false;
    const rows = this.#db.prepare(backward ? DOWNWARDS : UPWARDS).iterate(from, to) as Iterable<EventRow>;
    for (const row of rows) {
      const found = matches(row, filter) && hasKey(row, filter, keySizeOf);
      if (page.look(row.seq, found ? row : null)) continue;
      more = true;
      break;
    }
    const { rows: found, reached, lookedAt } = page.taken;
    const end = backward ? from + 1 : to;
    return { rows: backward ? found.reverse() : found, reached: more ? reached : end, lookedAt, more, over: false };
  }

  close(): void {
    this.#db.close();
  }
}

function hasKey(row: EventRow, { key }: EventFilter, keySizeOf: (map: number) => number | undefined): boolean {
  if (key === undefined) return true;
  const keys = touchedKeys(row, effectsIn(row), (map) => keySizeOf(map) ?? sizeIn(row));
  return keys.some((touched) => touched.subarray(0, key.length).equals(key));
}

/** The key size of a batch whose map was created in events that were not unpacked, by the batch's number of keys. */
function sizeIn({ key, attr }: EventRow): number | undefined {
  const { count } = JSON.parse(attr ?? "{}");
  if (key === null || !Number.isSafeInteger(count) || count < 1 || key.length % count !== 0) return undefined;
  return key.length / count;
}
