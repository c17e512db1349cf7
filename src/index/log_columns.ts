/**
 * Reads the log for the index. To read a row for each event would take longer than to index the event, so the columns
 * of a chunk of events are joined, as in `sqlite/changes.ts`:
 *
 *     seq session caller cmd map errno key   out      sessions  callers       cmds   maps   errnos  lengths  keys    outs
 *     7   3       ann    2   1   0     aabb  NULL     [3,3]     ["ann","bo"]  [2,3]  [1,1]  [0,0]   [12,9]   aabbcc  [{}]
 *     8   3       bo     3   1   0     cc    {}
 *
 * An item of `lengths` is 4 * (the key's length + 1), or 0 if there is no key. If `outs` has the event's effects, 1 is
 * added; if they are too long for `outs`, 2. Long keys are not joined.
 */

import type { Database, Statement } from "better-sqlite3";
import type { EventRow } from "../log/event.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { Out } from "../syscall/outcome.ts";

/** The most events of a chunk. */
export const CHUNK_EVENTS = 4096;
/** Longer keys, and longer effects, are not joined. */
const KEY_BYTES_MAX = 256;
const OUT_BYTES_MAX = 4096;

export type IndexedRow = Pick<
  EventRow,
  "seq" | "session" | "caller" | "cmd" | "map" | "errno" | "key" | "attr" | "out"
>;

/** The columns of events without a gap, from `first` on. */
export interface Columns {
  readonly first: number;
  readonly sessions: readonly number[];
  readonly callers: readonly string[];
  readonly cmds: readonly number[];
  readonly maps: readonly number[];
  readonly errnos: readonly number[];
  readonly lengths: readonly number[];
  readonly keys: Buffer;
  readonly outs: readonly Out[];
}

/** The CAST keeps the keys' bytes as they are. */
const JOINED = `
  SELECT
    count(*) AS count,
    json_group_array(session) AS sessions,
    json_group_array(caller) AS callers,
    json_group_array(cmd) AS cmds,
    json_group_array(map) AS maps,
    json_group_array(errno) AS errnos,
    json_group_array(4 * ifnull(length(key) + 1, 0) + CASE WHEN out IS NULL THEN 0 WHEN length(out) <= ${OUT_BYTES_MAX} THEN 1 ELSE 2 END)
      AS lengths,
    CAST(group_concat(CASE WHEN length(key) <= ${KEY_BYTES_MAX} THEN key END, '') AS BLOB) AS keys,
    '[' || ifnull(group_concat(CASE WHEN length(out) <= ${OUT_BYTES_MAX} THEN out END), '') || ']' AS outs
  FROM (SELECT session, caller, cmd, map, errno, key, out FROM events WHERE seq > ? AND seq <= ? ORDER BY seq)`;
const ROW = "SELECT seq, session, caller, cmd, map, errno, key, attr, out FROM events";
const ONE = `${ROW} WHERE seq = ?`;
const ALL = `${ROW} WHERE seq > ? AND seq <= ? ORDER BY seq`;

interface JoinedRow {
  readonly count: number;
  readonly sessions: string;
  readonly callers: string;
  readonly cmds: string;
  readonly maps: string;
  readonly errnos: string;
  readonly lengths: string;
  readonly keys: Buffer | null;
  readonly outs: string;
}

/** The log's events, as the index takes them in. */
export class LogColumns {
  readonly #joined: Statement;
  readonly #one: Statement;
  readonly #all: Statement;

  constructor(db: Database) {
    this.#joined = db.prepare(JOINED);
    this.#one = db.prepare(ONE);
    this.#all = db.prepare(ALL);
  }

  /** The events above `after`, up to `until`; null: there are gaps among them. */
  read(after: number, until: number): Columns | null {
    const { count, keys, ...joined } = this.#joined.get(after, until) as JoinedRow;
    if (count !== until - after) return null;
    return {
      first: after + 1,
      sessions: numbers(joined.sessions),
      callers: JSON.parse(joined.callers) as string[],
      cmds: numbers(joined.cmds),
      maps: numbers(joined.maps),
      errnos: numbers(joined.errnos),
      lengths: numbers(joined.lengths),
      keys: keys ?? NOTHING,
      outs: JSON.parse(joined.outs) as Out[],
    };
  }

  /** Reads an event whose columns do not have all that the index needs. */
  row(seq: number): IndexedRow {
    return this.#one.get(seq) as IndexedRow;
  }

  /** All events above `after`, up to `until`. */
  rows(after: number, until: number): Iterable<IndexedRow> {
    return this.#all.iterate(after, until) as Iterable<IndexedRow>;
  }
}

/** The bytes of an event's key, by its item of `lengths`; -1: it has no key. */
export function keyBytesOf(length: number): number {
  return (length >>> 2) - 1;
}

/** The bytes of an event's key that are among the joined keys: all or none. */
export function joinedBytes(keyBytes: number): number {
  return keyBytes < 0 || keyBytes > KEY_BYTES_MAX ? 0 : keyBytes;
}

/** Whether `outs` has the effects of an event, by its item of `lengths`. */
export function hasJoinedOut(length: number): boolean {
  return (length & 3) === 1;
}

/** Whether an event's columns have all that the index needs; `length`: its item of `lengths`. */
export function isWhole(cmd: number, length: number): boolean {
  const facts = commandFacts(cmd);
  const isMore = facts?.indexedAttr === true || facts?.elements === "batch";
  return (length & 3) !== 2 && keyBytesOf(length) <= KEY_BYTES_MAX && !isMore;
}

const NOTHING = Buffer.alloc(0);

function numbers(text: string): readonly number[] {
  return JSON.parse(text) as number[];
}
