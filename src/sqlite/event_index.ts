import { rmSync } from "node:fs";
import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import { type Archived, checkKept } from "../engine/archives.ts";
import type { EventPage, EventRange } from "../engine/events.ts";
import type { EventRow } from "../log/event.ts";
import { type EventFilter, matches } from "../log/event_filter.ts";
import { effectsIn, touchedKeys, touchedMaps } from "../log/touched.ts";
import type { MapRecord } from "../maps/map.ts";
import { ARCHIVED, readArchived } from "./archived.ts";
import { type Direction, eventQuery, KEYS_BETWEEN, type Source } from "./event_queries.ts";
import { migrate } from "./migrate.ts";
import { seqBefore } from "./moments.ts";

const MIGRATIONS = new URL("../../migrations/index/", import.meta.url);

const LOG_ID = "SELECT value FROM log.ledger WHERE name = 'id'";
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM log.events";
const ARCHIVED_FACT = `SELECT value FROM log.ledger WHERE name = '${ARCHIVED}'`;
const PROGRESS = "SELECT log, seq FROM progress";
const SET_PROGRESS = "INSERT OR REPLACE INTO progress (id, log, seq) VALUES (0, ?, ?)";
const UNINDEXED = `
  SELECT seq, session, caller, cmd, map, errno, key, out, CASE WHEN cmd = ${CMD.BPF_MAP_CREATE} THEN attr END AS attr
  FROM log.events WHERE seq > ? ORDER BY seq LIMIT ?`;
const KEY_SIZE = "SELECT key_size FROM key_sizes WHERE map = ?";
const SET_KEY_SIZE = "INSERT OR REPLACE INTO key_sizes (map, key_size) VALUES (?, ?)";
const TIME_AT = "SELECT time_us FROM log.events WHERE seq = ?";
const EVENT = "SELECT * FROM log.events WHERE seq = ?";
const IN_ORDER = "SELECT * FROM log.events WHERE seq > ? AND seq <= ? ORDER BY seq";

const INDEXED_KEY_BYTES = 64;
/** An answer ends after so many bytes of keys and values, however few its events are. */
const ANSWER_BYTES = 16 * 1024 * 1024;
/** And after so many events that were looked at, however few have matched: others want to be answered, too. */
const LOOKED_AT_MAX = 20_000;
/** Events indexed in one transaction. */
const CHUNK_EVENTS = 5000;

type UnindexedRow = Pick<EventRow, "seq" | "session" | "caller" | "cmd" | "map" | "errno" | "key" | "attr" | "out">;
type Found = EventRow & { readonly at: number };

/** Queries over the log, by an index that is brought up to date behind the commit: when it is asked, or when there is time. */
export class EventIndex {
  readonly #db: Database;
  readonly logId: string;
  readonly #statements = new Map<string, Statement>();
  #seq: number;

  /** The log must exist; an index that belongs to another log is made anew. */
  constructor(logFile: string, indexFile: string) {
    this.#db = openIndex(logFile, indexFile);
    this.logId = this.#db.prepare(LOG_ID).pluck().get() as string;
    let progress = this.#progress();
    if (progress !== undefined && (progress.log !== this.logId || progress.seq > this.lastSeq())) {
      this.#db.close();
      for (const suffix of ["", "-wal", "-shm"]) rmSync(indexFile + suffix, { force: true });
      this.#db = openIndex(logFile, indexFile);
      progress = undefined;
    }
    this.#seq = progress?.seq ?? 0;
  }

  /** Events up to this one are archived. */
  archived(): Archived {
    return readArchived(this.#prepared(ARCHIVED_FACT).pluck().get() as string | undefined);
  }

  /** Whether events that it has not taken in are archived: it can go on behind them only with `skip`. */
  isCutOff(): boolean {
    return this.#seq < this.archived().through;
  }

  /** Goes on behind archived events; the maps that there are then take their keys' sizes along. */
  skip(seq: number, maps: readonly Pick<MapRecord, "id" | "keySize">[]): void {
    this.#db.transaction(() => {
      for (const { id, keySize } of maps) this.#prepared(SET_KEY_SIZE).run(id, keySize);
      this.#prepared(SET_PROGRESS).run(this.logId, seq);
    })();
    this.#seq = seq;
  }

  lastSeq(): number {
    return this.#prepared(LAST_SEQ).pluck().get() as number;
  }

  event(seq: number): EventRow | null {
    return (this.#prepared(EVENT).get(seq) as EventRow | undefined) ?? null;
  }

  /** Indexes a chunk of what is new; answers whether there is more. */
  catchUp(): boolean {
    const rows = this.#prepared(UNINDEXED).all(this.#seq, CHUNK_EVENTS) as UnindexedRow[];
    const last = rows.at(-1);
    if (last === undefined) return false;
    this.#db.transaction(() => {
      for (const row of rows) this.#index(row);
      this.#prepared(SET_PROGRESS).run(this.logId, last.seq);
    })();
    this.#seq = last.seq;
    return rows.length === CHUNK_EVENTS;
  }

  /** Throws EventsArchived, as EventReader has it. */
  query(filter: EventFilter, asked: EventRange): EventPage {
    const { through } = this.archived();
    checkKept(through, asked);
    const range = { ...asked, afterSeq: Math.max(asked.afterSeq, through) };
    const last = this.lastSeq();
    if (this.#needsNoIndex(filter, range, last)) return this.#readOn(filter, range, last);
    while (this.catchUp());
    return this.#search(filter, range);
  }

  close(): void {
    this.#db.close();
  }

  /** Who follows the log asks for its end, which is read sooner than indexed; and who filters by nothing asks for it all. */
  #needsNoIndex({ map, session, caller, cmd, errno, key }: EventFilter, range: EventRange, last: number): boolean {
    if (range.beforeSeq !== undefined || key !== undefined) return false;
    if (range.afterSeq >= this.#seq && last - range.afterSeq <= CHUNK_EVENTS) return true;
    return [map, session, caller, cmd, errno].every((asked) => asked === undefined);
  }

  /** The log itself, event by event. */
  #readOn(filter: EventFilter, { afterSeq, limit }: EventRange, last: number): EventPage {
    const over = this.#isOver(filter, last);
    const after = Math.max(afterSeq, this.#seqBefore(filter.sinceUs ?? 0, last));
    const page = new Page(limit);
    for (const row of this.#prepared(IN_ORDER).iterate(after, last) as Iterable<EventRow>)
      if (!page.look(row.seq, matches(row, filter) ? row : null)) return { ...page.taken, more: true, over: false };
    return { rows: page.taken.rows, reached: Math.max(last, afterSeq), more: false, over };
  }

  /** By the index that narrows most. */
  #search(filter: EventFilter, { afterSeq, beforeSeq, limit }: EventRange): EventPage {
    const last = this.#seq;
    const backward = beforeSeq !== undefined;
    const over = this.#isOver(filter, last);
    const after = Math.max(afterSeq, this.#seqBefore(filter.sinceUs ?? 0, last));
    const below = Math.min(backward ? beforeSeq - 1 : last, last);
    const until = filter.untilUs === undefined ? below : Math.min(below, this.#seqBefore(filter.untilUs + 1, last));
    const page = new Page(limit);
    const done = (rest: { reached: number; more: boolean; over: boolean }): EventPage => {
      const { rows } = page.taken;
      return { rows: backward ? rows.reverse() : rows, ...rest };
    };
    for (const found of this.#find(filter, after, until, backward ? "DESC" : "ASC"))
      if (!page.look(found.at, this.#matched(found, filter)))
        return done({ reached: found.at, more: true, over: false });
    return done({ reached: backward ? afterSeq + 1 : Math.max(below, afterSeq), more: false, over });
  }

  #find(filter: EventFilter, after: number, until: number, direction: Direction): Iterable<Found> {
    const { map = null, session = null, caller = null, cmd = null, errno = null } = filter;
    const changing = filter.changing === true ? 1 : null;
    const key = filter.key?.subarray(0, INDEXED_KEY_BYTES) ?? null;
    const keyEnd = key === null ? null : afterBytes(key);
    const source = this.#sourceFor(filter, key, keyEnd);
    const values = { map, session, caller, cmd, errno, changing, key, keyEnd, after, until };
    return this.#prepared(eventQuery(source, direction)).iterate(values) as Iterable<Found>;
  }

  /** The event that was found; null: its other columns do not match, nor does its key behind what is indexed of it. */
  #matched({ at, ...row }: Found, { key }: EventFilter): EventRow | null {
    if (row.seq === null) return null;
    if (key === undefined || key.length <= INDEXED_KEY_BYTES) return row;
    const keys = touchedKeys(row, effectsIn(row), (map) => this.#keySizeOf(map));
    return keys.some((touched) => touched.subarray(0, key.length).equals(key)) ? row : null;
  }

  /** errno 0 is no index's: it is what most events have. */
  #sourceFor({ errno, session, map, caller, cmd }: EventFilter, key: Buffer | null, keyEnd: Buffer | null): Source {
    if (key !== null && key.length > 0) {
      const { least, greatest } = this.#prepared(KEYS_BETWEEN).get({ key, keyEnd }) as Record<string, Buffer | null>;
      return least?.equals(key) === true && greatest?.equals(key) === true ? "key" : "keys";
    }
    if (errno !== undefined && errno !== 0) return "errno";
    if (session !== undefined) return "session";
    if (map !== undefined) return "map";
    if (caller !== undefined) return "caller";
    return cmd === undefined ? "none" : "cmd";
  }

  #isOver({ untilUs }: EventFilter, last: number): boolean {
    return untilUs !== undefined && this.#seqBefore(untilUs + 1, last) < last;
  }

  #seqBefore(timeUs: number, last: number): number {
    return timeUs <= 0 ? 0 : seqBefore(this.#prepared(TIME_AT).pluck(), last, timeUs, this.archived().through);
  }

  #index(row: UnindexedRow): void {
    const { seq } = row;
    const effects = effectsIn(row);
    for (const map of touchedMaps(row, effects)) this.#add("by_map", "map", map, seq);
    this.#add("by_session", "session", row.session, seq);
    this.#add("by_caller", "caller", row.caller, seq);
    this.#add("by_cmd", "cmd", row.cmd, seq);
    if (row.errno !== 0) this.#add("by_errno", "errno", row.errno, seq);
    if (row.cmd === CMD.BPF_MAP_CREATE && row.map !== 0)
      this.#prepared(SET_KEY_SIZE).run(row.map, JSON.parse(row.attr as string).key_size);
    for (const key of touchedKeys(row, effects, (map) => this.#keySizeOf(map)))
      this.#add("by_key", "key", key.subarray(0, INDEXED_KEY_BYTES), seq);
  }

  #keySizeOf(map: number): number | undefined {
    return this.#prepared(KEY_SIZE).pluck().get(map) as number | undefined;
  }

  #add(table: string, column: string, value: number | string | Buffer, seq: number): void {
    this.#prepared(`INSERT OR IGNORE INTO ${table} (${column}, seq) VALUES (?, ?)`).run(value, seq);
  }

  #progress(): { log: string; seq: number } | undefined {
    return this.#db.prepare(PROGRESS).get() as { log: string; seq: number } | undefined;
  }

  #prepared(sql: string): Statement {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** The rows of an answer, as they are found. */
class Page {
  readonly #limit: number;
  readonly #rows: EventRow[] = [];
  #reached = 0;
  #bytes = 0;
  #lookedAt = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** An event was looked at, and taken unless it is null. Answers whether there is room for another. */
  look(seq: number, row: EventRow | null): boolean {
    this.#reached = seq;
    this.#lookedAt++;
    if (row !== null) {
      this.#rows.push(row);
      this.#bytes += (row.key?.length ?? 0) + (row.value?.length ?? 0);
    }
    return this.#rows.length < this.#limit && this.#bytes <= ANSWER_BYTES && this.#lookedAt < LOOKED_AT_MAX;
  }

  get taken(): { readonly rows: EventRow[]; readonly reached: number } {
    return { rows: this.#rows, reached: this.#reached };
  }
}

function openIndex(logFile: string, indexFile: string): Database {
  const db = new Sqlite(indexFile);
  db.pragma("journal_mode = WAL");
  db.pragma("synchronous = NORMAL");
  migrate(db, MIGRATIONS);
  db.prepare("ATTACH ? AS log").run(logFile);
  return db;
}

/** The least bytes greater than all that begin with `prefix`. */
function afterBytes(prefix: Buffer): Buffer {
  const last = prefix.findLastIndex((byte) => byte !== 255);
  if (last === -1) return Buffer.alloc(INDEXED_KEY_BYTES + 1, 255);
  const after = Buffer.from(prefix.subarray(0, last + 1));
  after[last] = (after[last] as number) + 1;
  return after;
}
