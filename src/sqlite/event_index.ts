import { rmSync } from "node:fs";
import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import type { EventFilter } from "../engine/events.ts";
import type { EventRow } from "../log/event.ts";
import { migrate } from "./migrate.ts";
import { seqBefore } from "./moments.ts";

const MIGRATIONS = new URL("../../migrations/index/", import.meta.url);

const LOG_ID = "SELECT value FROM log.ledger WHERE name = 'id'";
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM log.events";
const PROGRESS = "SELECT log, seq FROM progress";
const SET_PROGRESS = "INSERT OR REPLACE INTO progress (id, log, seq) VALUES (0, ?, ?)";
const UNINDEXED = `
  SELECT seq, session, caller, cmd, map, errno, key, CASE WHEN cmd = ${CMD.BPF_MAP_CREATE} THEN attr END AS attr
  FROM log.events WHERE seq > ? ORDER BY seq LIMIT ?`;
const KEY_SIZE = "SELECT key_size FROM key_sizes WHERE map = ?";
const SET_KEY_SIZE = "INSERT OR REPLACE INTO key_sizes (map, key_size) VALUES (?, ?)";
const TIME_AT = "SELECT time_us FROM log.events WHERE seq = ?";
const EVENT = "SELECT * FROM log.events WHERE seq = ?";

/** What an index offers: its events of one filter's value, by seq. */
const SOURCES = {
  key: "SELECT DISTINCT seq FROM by_key WHERE key >= :key AND key < :keyEnd AND seq > :after AND seq <= :until",
  errno: "SELECT seq FROM by_errno WHERE errno = :errno AND seq > :after AND seq <= :until",
  session: "SELECT seq FROM by_session WHERE session = :session AND seq > :after AND seq <= :until",
  map: "SELECT seq FROM by_map WHERE map = :map AND seq > :after AND seq <= :until",
  caller: "SELECT seq FROM by_caller WHERE caller = :caller AND seq > :after AND seq <= :until",
  cmd: "SELECT seq FROM by_cmd WHERE cmd = :cmd AND seq > :after AND seq <= :until",
  none: "SELECT seq FROM log.events WHERE seq > :after AND seq <= :until",
} as const;

type Source = keyof typeof SOURCES;

/** Each filter on the rows that an index offers; a filter that is not given is NULL and holds. */
const select = (source: Source): string => `
  SELECT e.* FROM (${SOURCES[source]} ORDER BY seq) AS i CROSS JOIN log.events AS e ON e.seq = i.seq
  WHERE (:map IS NULL OR e.map = :map)
    AND (:session IS NULL OR e.session = :session)
    AND (:caller IS NULL OR e.caller = :caller)
    AND (:cmd IS NULL OR e.cmd = :cmd)
    AND (:errno IS NULL OR e.errno = :errno)
  ORDER BY e.seq LIMIT :limit`;

const INDEXED_KEY_BYTES = 64;
/** An answer ends after so many bytes of keys and values, however few its events are. */
const ANSWER_BYTES = 16 * 1024 * 1024;
/** Events indexed in one transaction. */
const CHUNK_EVENTS = 5000;

const BATCHES: ReadonlySet<number> = new Set([
  CMD.BPF_MAP_LOOKUP_BATCH,
  CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH,
  CMD.BPF_MAP_UPDATE_BATCH,
  CMD.BPF_MAP_DELETE_BATCH,
]);

type UnindexedRow = Pick<EventRow, "seq" | "session" | "caller" | "cmd" | "map" | "errno" | "key" | "attr">;

/** Queries over the log, by an index that is brought up to date behind the commit: when it is asked, or when there is time. */
export class EventIndex {
  readonly #db: Database;
  readonly #logId: string;
  readonly #statements = new Map<Source, Statement>();
  #seq: number;

  /** The log must exist; an index that belongs to another log is made anew. */
  constructor(logFile: string, indexFile: string) {
    this.#db = openIndex(logFile, indexFile);
    this.#logId = this.#db.prepare(LOG_ID).pluck().get() as string;
    let progress = this.#progress();
    if (progress !== undefined && (progress.log !== this.#logId || progress.seq > this.lastSeq())) {
      this.#db.close();
      for (const suffix of ["", "-wal", "-shm"]) rmSync(indexFile + suffix, { force: true });
      this.#db = openIndex(logFile, indexFile);
      progress = undefined;
    }
    this.#seq = progress?.seq ?? 0;
  }

  lastSeq(): number {
    return this.#db.prepare(LAST_SEQ).pluck().get() as number;
  }

  event(seq: number): EventRow | null {
    return (this.#db.prepare(EVENT).get(seq) as EventRow | undefined) ?? null;
  }

  /** Indexes a chunk of what is new; answers whether there is more. */
  catchUp(): boolean {
    const rows = this.#db.prepare(UNINDEXED).all(this.#seq, CHUNK_EVENTS) as UnindexedRow[];
    const last = rows.at(-1);
    if (last === undefined) return false;
    this.#db.transaction(() => {
      for (const row of rows) this.#index(row);
      this.#db.prepare(SET_PROGRESS).run(this.#logId, last.seq);
    })();
    this.#seq = last.seq;
    return rows.length === CHUNK_EVENTS;
  }

  /** Ascending by seq, at most `limit`, fewer where they are large. The index is brought up to the log first. */
  query(filter: EventFilter): EventRow[] {
    while (this.catchUp());
    const source = sourceFor(filter);
    const statement = this.#statements.get(source) ?? this.#db.prepare(select(source));
    this.#statements.set(source, statement);
    const key = filter.key?.subarray(0, INDEXED_KEY_BYTES) ?? null;
    const matching = statement.iterate({
      map: filter.map ?? null,
      session: filter.session ?? null,
      caller: filter.caller ?? null,
      cmd: filter.cmd ?? null,
      errno: filter.errno ?? null,
      key,
      keyEnd: key === null ? null : afterBytes(key),
      after: Math.max(filter.afterSeq, filter.sinceUs === undefined ? 0 : this.#seqBefore(filter.sinceUs)),
      until: filter.untilUs === undefined ? this.#seq : this.#seqBefore(filter.untilUs + 1),
      limit: filter.limit,
    }) as Iterable<EventRow>;
    const rows: EventRow[] = [];
    let bytes = 0;
    for (const row of matching) {
      rows.push(row);
      bytes += (row.key?.length ?? 0) + (row.value?.length ?? 0);
      if (bytes > ANSWER_BYTES) break;
    }
    return rows;
  }

  close(): void {
    this.#db.close();
  }

  #seqBefore(timeUs: number): number {
    return seqBefore(this.#db.prepare(TIME_AT).pluck(), this.#seq, timeUs);
  }

  #index(row: UnindexedRow): void {
    const { seq } = row;
    if (row.map !== 0) this.#add("by_map", "map", row.map, seq);
    if (row.session !== 0) this.#add("by_session", "session", row.session, seq);
    this.#add("by_caller", "caller", row.caller, seq);
    this.#add("by_cmd", "cmd", row.cmd, seq);
    if (row.errno !== 0) this.#add("by_errno", "errno", row.errno, seq);
    if (row.cmd === CMD.BPF_MAP_CREATE && row.map !== 0)
      this.#db.prepare(SET_KEY_SIZE).run(row.map, JSON.parse(row.attr as string).key_size);
    if (row.key === null) return;
    for (const key of this.#keysOf(row, row.key)) this.#add("by_key", "key", key.subarray(0, INDEXED_KEY_BYTES), seq);
  }

  #keysOf(row: UnindexedRow, keys: Buffer): Buffer[] {
    const size = BATCHES.has(row.cmd)
      ? (this.#db.prepare(KEY_SIZE).pluck().get(row.map) as number | undefined)
      : undefined;
    if (size === undefined || size === 0) return [keys];
    return Array.from({ length: Math.floor(keys.length / size) }, (_, at) => keys.subarray(at * size, (at + 1) * size));
  }

  readonly #adding = new Map<string, Statement>();

  #add(table: string, column: string, value: number | string | Buffer, seq: number): void {
    let statement = this.#adding.get(table);
    if (statement === undefined) {
      statement = this.#db.prepare(`INSERT OR IGNORE INTO ${table} (${column}, seq) VALUES (?, ?)`);
      this.#adding.set(table, statement);
    }
    statement.run(value, seq);
  }

  #progress(): { log: string; seq: number } | undefined {
    return this.#db.prepare(PROGRESS).get() as { log: string; seq: number } | undefined;
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

/** The index that narrows most. errno 0 is no index's: it is what most events have. */
function sourceFor(filter: EventFilter): Source {
  if (filter.key !== undefined && filter.key.length > 0) return "key";
  if (filter.errno !== undefined && filter.errno !== 0) return "errno";
  if (filter.session !== undefined && filter.session !== 0) return "session";
  if (filter.map !== undefined && filter.map !== 0) return "map";
  if (filter.caller !== undefined) return "caller";
  return filter.cmd === undefined ? "none" : "cmd";
}

/** The least bytes greater than all that begin with `prefix`. */
function afterBytes(prefix: Buffer): Buffer {
  const last = prefix.findLastIndex((byte) => byte !== 255);
  if (last === -1) return Buffer.alloc(INDEXED_KEY_BYTES + 1, 255);
  const after = Buffer.from(prefix.subarray(0, last + 1));
  after[last] = (after[last] as number) + 1;
  return after;
}
