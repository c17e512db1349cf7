/**
 * Finds events by map, session, caller, command, errno, key and time. The index is computed from the log after its
 * commit, when the log rests or a question comes. The log's last events are searched without it. Each answer says up to
 * which event all have been looked at. The index also keeps the peer of each session, and the maps that events touched;
 * before events are archived it takes them in, so that it knows these of archived events, too.
 */

import { rmSync } from "node:fs";
import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import { INDEX_FILE } from "../data/layout.ts";
import { type Archived, checkKept } from "../engine/archives.ts";
import type { EventPage, EventRange, KeptTimes, MarkedRow } from "../engine/events.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import { type EventFilter, matches } from "../log/event_filter.ts";
import { effectsIn, hasChanged, touchedKeys, touchedMaps } from "../log/event_subjects.ts";
import { Marks } from "../log/position.ts";
import type { MapRecord } from "../maps/map.ts";
import { ARCHIVED, readArchived } from "../sqlite/archive_facts.ts";
import { DATABASES } from "../sqlite/databases.ts";
import { LIFE, LOG_ID } from "../sqlite/facts.ts";
import { WHOLE_ROW } from "../sqlite/log_rows.ts";
import { LogTimes, type Stretch } from "../sqlite/log_times.ts";
import { migrate } from "../sqlite/migrate.ts";
import type { Out } from "../syscall/outcome.ts";
import { LOOKED_AT_MAX, Page } from "./page.ts";
import { type Direction, eventQuery, KEYS_BETWEEN, READS, type Source } from "./queries.ts";

const MIGRATIONS = DATABASES[INDEX_FILE];

const FACT = "SELECT value FROM log.ledger WHERE name = ?";
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM log.events";
const ARCHIVED_FACT = `SELECT value FROM log.ledger WHERE name = '${ARCHIVED}'`;
const PROGRESS = "SELECT log, seq, since FROM progress";
const SET_PROGRESS = "INSERT OR REPLACE INTO progress (id, log, seq, since) VALUES (0, ?, ?, ?)";
const UNINDEXED = `
  SELECT seq, session, caller, cmd, map, errno, key, out, CASE WHEN cmd IN (${CMD.BPF_MAP_CREATE}, ${CMD.SESSION_OPEN}) THEN attr END AS attr
  FROM log.events WHERE seq > ? ORDER BY seq LIMIT ?`;
const UNSEEN_SESSIONS = `
  SELECT seq, attr, out FROM log.events WHERE seq > ? AND seq <= ? AND cmd = ${CMD.SESSION_OPEN}`;
const KEY_SIZE = "SELECT key_size FROM key_sizes WHERE map = ?";
const ADD_CHANGE = "INSERT OR IGNORE INTO changes (seq) VALUES (?)";
const ADD_FAILURE = "INSERT OR IGNORE INTO failures (seq) VALUES (?)";
const SET_KEY_SIZE = "INSERT OR REPLACE INTO key_sizes (map, key_size) VALUES (?, ?)";
const PEER = "SELECT peer FROM session_peers WHERE session = ?";
const SET_PEER = "INSERT OR REPLACE INTO session_peers (session, peer) VALUES (?, ?)";
const EVENT = "SELECT * FROM log.events WHERE seq = ?";
/** Of a map's events in a range: how many there are, of the first so many, and how many of these only read. */
const READS_OF_MAP = `
  SELECT count(*) AS events, coalesce(sum(EXISTS (
    SELECT 1 FROM by_cmd AS c WHERE c.cmd IN (${READS.join(", ")}) AND c.seq = m.seq)), 0) AS reads
  FROM (SELECT seq FROM by_map WHERE map = ? AND seq > ? AND seq <= ? LIMIT ?) AS m`;
const IN_ORDER = "SELECT * FROM log.events WHERE seq > ? AND seq <= ? ORDER BY seq";

/** In place of bytes that are no UTF-8. */
const REPLACEMENT = "\ufffd";

const INDEXED_KEY_BYTES = 64;
/** Events indexed in one transaction. */
const CHUNK_EVENTS = 5000;

type UnindexedRow = Pick<EventRow, "seq" | "session" | "caller" | "cmd" | "map" | "errno" | "key" | "attr" | "out">;
type FoundPage = Omit<EventPage, "rows" | "mark"> & { readonly rows: readonly EventRow[] };
type Found = EventRow & { readonly at: number };

/** Queries over the log, by an index that is brought up to date behind the commit: when it is asked, or when there is time. */
export class EventIndex {
  readonly #db: Database;
  readonly logId: string;
  readonly #statements = new Map<string, Statement>();
  readonly #times: LogTimes;
  readonly #marks: Marks;
  #seq: number;
  /** All events above it have been taken in, up to `#seq`. */
  #since: number;

  /** The log must exist; an index that belongs to another log is made anew. */
  constructor(logFile: string, indexFile: string) {
    this.#db = openIndex(logFile, indexFile);
    this.logId = this.#fact(LOG_ID);
    let progress = this.#progress();
    if (progress !== undefined && (progress.log !== this.logId || progress.seq > this.lastSeq())) {
      this.#db.close();
      this.#statements.clear();
      discardIndex(indexFile);
      this.#db = openIndex(logFile, indexFile);
      progress = undefined;
    }
    this.#seq = progress?.seq ?? 0;
    this.#since = progress?.since ?? 0;
    this.#marks = new Marks(this.#fact(LIFE));
    this.#times = new LogTimes(this.#db, "log.events");
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
      this.#prepared(SET_PROGRESS).run(this.logId, seq, seq);
    })();
    this.#seq = seq;
    this.#since = seq;
  }

  lastSeq(): number {
    return this.#prepared(LAST_SEQ).pluck().get() as number;
  }

  event(seq: number): MarkedRow | null {
    const row = this.#prepared(EVENT).get(seq) as EventRow | undefined;
    return row === undefined ? null : this.#marked(row);
  }

  /** As EventReader has it. */
  mark(seq: number): number | null {
    if (seq === 0) return 0;
    const row = this.#prepared(EVENT).get(seq) as EventRow | undefined;
    return row === undefined ? null : this.#markOf(row);
  }

  /** The same; it is asked of archived events. */
  isUntouched(map: number, afterSeq: number, untilSeq: number): boolean {
    if (afterSeq < this.#since || untilSeq > this.#seq) return false;
    const found = this.#prepared(READS_OF_MAP).get(map, afterSeq, untilSeq, LOOKED_AT_MAX);
    const { events, reads } = found as { events: number; reads: number };
    return events < LOOKED_AT_MAX && events === reads;
  }

  /** Whether all events have been taken in. */
  isWhole(): boolean {
    return this.#seq >= this.lastSeq();
  }

  /** Indexes a chunk of what is new; answers whether there is more. */
  catchUp(): boolean {
    const rows = this.#prepared(UNINDEXED).all(this.#seq, CHUNK_EVENTS) as UnindexedRow[];
    const last = rows.at(-1);
    if (last === undefined) return false;
    this.#db.transaction(() => {
      for (const row of rows) this.#index(row);
      this.#prepared(SET_PROGRESS).run(this.logId, last.seq, this.#since);
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
    if (this.#needsNoIndex(filter, range, last)) return this.#page(this.#readOn(filter, range, last));
    while (this.catchUp());
    return this.#page(this.#search(filter, range));
  }

  /** Where the moments of a filter are among events that are not archived. */
  keptTimes({ sinceUs, untilUs }: EventFilter): KeptTimes {
    const { through } = this.archived();
    const last = this.lastSeq();
    const { after, until } = this.#times.between(sinceUs, untilUs, { after: through, until: last });
    return { since: after > through, until: until > through, untilSeq: until, last };
  }

  /** From where sessions were opened; null: their events do not say. */
  peers(sessions: readonly number[]): (string | null)[] {
    const find = (): (string | undefined)[] =>
      sessions.map((session) => this.#prepared(PEER).pluck().get(session) as string | undefined);
    const found = find();
    if (!found.includes(undefined)) return found as string[];
    while (this.catchUp());
    return find().map((peer) => peer ?? null);
  }

  close(): void {
    this.#db.close();
  }

  /**
   * What the log says by itself, event by event, where there is no index that serves; undefined: that takes an index. In memory it comes
   * to know the peers of sessions alone.
   */
  queryWithout(filter: EventFilter, asked: EventRange): EventPage | undefined {
    const { through } = this.archived();
    checkKept(through, asked);
    if (asked.beforeSeq !== undefined || filter.key !== undefined) return undefined;
    const range = { ...asked, afterSeq: Math.max(asked.afterSeq, through) };
    return this.#page(this.#readOn(filter, range, this.lastSeq()));
  }

  /** As peers, from the log. */
  peersWithout(sessions: readonly number[]): (string | null)[] {
    const last = this.lastSeq();
    const rows = this.#prepared(UNSEEN_SESSIONS).all(this.#seq, last) as Pick<UnindexedRow, "attr" | "out">[];
    for (const row of rows) this.#notePeer(row.attr, effectsIn(row));
    this.#seq = last;
    return sessions.map((session) => (this.#prepared(PEER).pluck().get(session) as string | undefined) ?? null);
  }

  /** Who follows the log asks for its end, which is read sooner than indexed; and who filters by nothing asks for it all. */
  #needsNoIndex(
    { map, session, caller, cmd, errno, key, changed, failed }: EventFilter,
    range: EventRange,
    last: number,
  ): boolean {
    if (range.beforeSeq !== undefined || key !== undefined) return false;
    if (range.afterSeq >= this.#seq && last - range.afterSeq <= CHUNK_EVENTS) return true;
    return [map, session, caller, cmd, errno, changed, failed].every((asked) => asked === undefined);
  }

  #page({ rows, ...rest }: FoundPage): EventPage {
    const marked = rows.map((row) => this.#marked(row));
    const last = marked.at(-1);
    return { rows: marked, ...rest, mark: last?.seq === rest.reached ? last.mark : (this.mark(rest.reached) ?? 0) };
  }

  #marked(row: EventRow): MarkedRow {
    return { ...row, mark: this.#markOf(row) };
  }

  /** Of its columns as they are stored. */
  #markOf(row: EventRow): number {
    if (isExact(row)) return this.#marks.ofRow(row);
    return this.#marks.of(this.#prepared(WHOLE_ROW).raw().get(row.seq) as RowBytes);
  }

  #fact(name: string): string {
    return (this.#db.prepare(FACT).pluck().get(name) as string | undefined) ?? "";
  }

  /** The log itself, event by event. */
  #readOn(filter: EventFilter, { afterSeq, limit }: EventRange, last: number): FoundPage {
    const over = this.#isOver(filter, last);
    const { after, until } = this.#between(filter, afterSeq, last, last);
    const page = new Page(limit);
    for (const row of this.#prepared(IN_ORDER).iterate(after, until) as Iterable<EventRow>)
      if (!page.look(row.seq, matches(row, filter) ? row : null)) return { ...page.taken, more: true, over: false };
    return { ...page.taken, reached: Math.max(last, afterSeq), more: false, over };
  }

  /** By the index that narrows most. */
  #search(filter: EventFilter, { afterSeq, beforeSeq, limit }: EventRange): FoundPage {
    const last = this.#seq;
    const backward = beforeSeq !== undefined;
    const over = this.#isOver(filter, last);
    const below = Math.min(backward ? beforeSeq - 1 : last, last);
    const stretch = this.#between(filter, afterSeq, below, last);
    const page = new Page(limit);
    const done = (rest: { reached: number; more: boolean; over: boolean }): FoundPage => {
      const { rows, lookedAt } = page.taken;
      return { rows: backward ? rows.reverse() : rows, lookedAt, ...rest };
    };
    for (const found of this.#find(filter, stretch, backward ? "DESC" : "ASC"))
      if (!page.look(found.at, this.#matched(found, filter)))
        return done({ reached: found.at, more: true, over: false });
    return done({ reached: backward ? afterSeq + 1 : Math.max(below, afterSeq), more: false, over });
  }

  #find(filter: EventFilter, { after, until }: Stretch, direction: Direction): Iterable<Found> {
    const { map = null, session = null, caller = null, cmd = null, errno = null } = filter;
    const changing = filter.changing === true ? 1 : null;
    const [changed, failed] = [bit(filter.changed), bit(filter.failed)];
    const key = filter.key?.subarray(0, INDEXED_KEY_BYTES) ?? null;
    const keyEnd = key === null ? null : afterBytes(key);
    const source = this.#sourceFor(filter, key, keyEnd);
    const values = { map, session, caller, cmd, errno, changing, changed, failed, key, keyEnd, after, until };
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
  #sourceFor(
    { errno, failed, session, map, caller, cmd, changed }: EventFilter,
    key: Buffer | null,
    keyEnd: Buffer | null,
  ): Source {
    if (key !== null && key.length > 0) {
      const { least, greatest } = this.#prepared(KEYS_BETWEEN).get({ key, keyEnd }) as Record<string, Buffer | null>;
      return least?.equals(key) === true && greatest?.equals(key) === true ? "key" : "keys";
    }
    if (errno !== undefined && errno !== 0) return "errno";
    if (failed === true) return "failures";
    if (session !== undefined) return "session";
    if (map !== undefined) return "map";
    if (caller !== undefined) return "caller";
    if (cmd !== undefined) return "cmd";
    return changed === true ? "changes" : "none";
  }

  #isOver({ untilUs }: EventFilter, last: number): boolean {
    return untilUs !== undefined && (this.#times.at(last) ?? 0) > untilUs;
  }

  /** Where the events of a range are by their times: what is stamped behind the range counts, too. */
  #between({ sinceUs, untilUs }: EventFilter, afterSeq: number, untilSeq: number, last: number): Stretch {
    const { after, until } = this.#times.between(sinceUs, untilUs, { after: this.archived().through, until: last });
    return { after: Math.max(after, afterSeq), until: Math.min(until, untilSeq) };
  }

  #index(row: UnindexedRow): void {
    const { seq } = row;
    const effects = effectsIn(row);
    for (const map of touchedMaps(row, effects)) this.#add("by_map", "map", map, seq);
    this.#add("by_session", "session", row.session, seq);
    this.#add("by_caller", "caller", row.caller, seq);
    this.#add("by_cmd", "cmd", row.cmd, seq);
    if (row.errno !== 0) this.#add("by_errno", "errno", row.errno, seq);
    if (row.errno !== 0) this.#prepared(ADD_FAILURE).run(seq);
    if (hasChanged(row, effects)) this.#prepared(ADD_CHANGE).run(seq);
    if (row.cmd === CMD.BPF_MAP_CREATE && row.map !== 0)
      this.#prepared(SET_KEY_SIZE).run(row.map, JSON.parse(row.attr as string).key_size);
    if (row.cmd === CMD.SESSION_OPEN) this.#notePeer(row.attr, effects);
    for (const key of touchedKeys(row, effects, (map) => this.#keySizeOf(map)))
      this.#add("by_key", "key", key.subarray(0, INDEXED_KEY_BYTES), seq);
  }

  #notePeer(attr: string | null, effects: Out | null): void {
    const { peer } = JSON.parse(attr ?? "{}");
    const session = effects?.session_id;
    if (typeof peer === "string" && session !== undefined) this.#prepared(SET_PEER).run(session, peer);
  }

  #keySizeOf(map: number): number | undefined {
    return this.#prepared(KEY_SIZE).pluck().get(map) as number | undefined;
  }

  #add(table: string, column: string, value: number | string | Buffer, seq: number): void {
    this.#prepared(`INSERT OR IGNORE INTO ${table} (${column}, seq) VALUES (?, ?)`).run(value, seq);
  }

  #progress(): { log: string; seq: number; since: number } | undefined {
    return this.#db.prepare(PROGRESS).get() as { log: string; seq: number; since: number } | undefined;
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

/** Whether a row says exactly what is stored: a large number was not rounded, a text not mended. */
function isExact({ flags, caller, detail, attr, out }: EventRow): boolean {
  return (
    Number.isSafeInteger(flags) && ![caller, detail, attr, out].some((text) => text?.includes(REPLACEMENT) === true)
  );
}

function openIndex(logFile: string, indexFile: string): Database {
  const db = new Sqlite(indexFile);
  try {
    db.pragma("journal_mode = WAL");
    db.pragma("synchronous = NORMAL");
    migrate(db, MIGRATIONS);
    db.prepare("ATTACH ? AS log").run(logFile);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Throws an index away, so that it is made again from the log. */
export function discardIndex(indexFile: string): void {
  for (const suffix of ["", "-wal", "-shm"]) rmSync(indexFile + suffix, { force: true });
}

/**
 * Whether an index is as SQLite has written it: what a question was told of damage is then said of the log. Reads all of it, which takes less
 * than to make it again.
 */
export function isIndexSound(indexFile: string): boolean {
  try {
    const db = new Sqlite(indexFile, { fileMustExist: true });
    try {
      return db.pragma("integrity_check(1)", { simple: true }) === "ok";
    } finally {
      db.close();
    }
  } catch {
    return false;
  }
}

/** The log without an index: for `queryWithout`, `peersWithout` and what is looked up by seq. */
export function withoutIndex(logFile: string): EventIndex {
  return new EventIndex(logFile, ":memory:");
}

function bit(asked: boolean | undefined): 0 | 1 | null {
  return asked === undefined ? null : asked ? 1 : 0;
}

/** The least bytes greater than all that begin with `prefix`. */
function afterBytes(prefix: Buffer): Buffer {
  const last = prefix.findLastIndex((byte) => byte !== 255);
  if (last === -1) return Buffer.alloc(INDEXED_KEY_BYTES + 1, 255);
  const after = Buffer.from(prefix.subarray(0, last + 1));
  after[last] = (after[last] as number) + 1;
  return after;
}
