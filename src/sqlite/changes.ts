/**
 * Events that may have changed the state, read in bulk for a replay. No peer is read, because no change depends on it.
 * If there are many events, a thread of its own reads chunks ahead (`changes_ahead.ts`).
 */

import type { Database, Statement } from "better-sqlite3";
import { type Event, type EventRow, elementChange, rowEvent } from "../log/event.ts";
import { cmdsThat } from "../syscall/command_facts.ts";
import type { Out } from "../syscall/outcome.ts";

/**
 * Events that may have changed the state, read in bulk for a replay. Reading an event as a row of its own takes longer
 * than applying it, mostly because of a Buffer for each column. But most changing events change one element, and are
 * described completely by their columns cmd, map, key, value and out. A chunk has those events as a single row, in
 * which each column of all events is joined:
 *
 *     seq cmd map key value out      seqs   cmds   maps   keyBytes  keys    valueBytes  values   outs
 *     7   2   1   aa  01 02 NULL     [7,9]  [2,3]  [1,1]  [1,1]     aa bb   [2,0]       01 02    [null,null]
 *     9   3   1   bb  NULL  NULL
 *
 * All other events that may have changed the state are whole rows.
 */
export interface Chunk {
  readonly plain: PlainColumns;
  readonly others: readonly EventRow[];
  /** The last seq that the chunk covers. */
  readonly until: number;
}

/**
 * JSON texts, except `keys` and `values`, which are bytes. All are null if the chunk has no such event; `keys` and
 * `values` are also null if no event has a key or a value.
 */
interface PlainColumns {
  readonly seqs: string | null;
  readonly cmds: string;
  readonly maps: string;
  readonly keyBytes: string;
  readonly keys: Uint8Array | null;
  readonly valueBytes: string;
  readonly values: Uint8Array | null;
  readonly outs: string;
}

const CHUNK_EVENTS = 4096;
/** A chunk ends early once its whole rows have more bytes than this. */
const OTHERS_BYTES = 4 * 1024 * 1024;
/** An event whose columns have more bytes than this is read as a whole row. */
const PLAIN_BYTES_MAX = 4096;

const among = (cmds: readonly number[]): string => `cmd IN (${cmds.join(", ")})`;
const ELEMENT_CMDS = among(cmdsThat(({ elements, changes }) => elements === "one" && changes === "map"));
/** The attr is NULL, or has only a peer, which a replay ignores. A comma would separate a second field. */
const SAYS_NO_MORE = `(attr IS NULL OR attr LIKE '{"peer":"%' AND instr(attr, ',') = 0)`;
const IS_PLAIN = `${ELEMENT_CMDS} AND errno = 0 AND ${SAYS_NO_MORE}
  AND ifnull(length(key), 0) + ifnull(length(value), 0) + ifnull(length(out), 0) <= ${PLAIN_BYTES_MAX}`;
const CHANGES_NOTHING = `${among(cmdsThat(({ changesState }) => !changesState))}
  OR ${ELEMENT_CMDS} AND errno <> 0 AND out IS NULL`;

/** The CASTs keep bytes unchanged, because SQLite does not validate text as UTF-8. */
const PLAIN = `
  SELECT
    '[' || group_concat(seq) || ']' AS seqs,
    '[' || group_concat(cmd) || ']' AS cmds,
    '[' || group_concat(map) || ']' AS maps,
    '[' || group_concat(ifnull(length(key), 0)) || ']' AS keyBytes,
    CAST(group_concat(key, '') AS BLOB) AS keys,
    '[' || group_concat(ifnull(length(value), 0)) || ']' AS valueBytes,
    CAST(group_concat(value, '') AS BLOB) AS "values",
    '[' || group_concat(ifnull(out, 'null')) || ']' AS outs
  FROM (SELECT * FROM events WHERE seq > ? AND seq <= ? AND ${IS_PLAIN} ORDER BY seq)`;
const OTHERS = `
  SELECT * FROM events WHERE seq > ? AND seq <= ? AND NOT (${IS_PLAIN}) AND NOT (${CHANGES_NOTHING}) ORDER BY seq`;

/** Yields the chunks of a log with events after `afterSeq`, up to `lastSeq`. */
export function* readChunks(db: Database, afterSeq: number, lastSeq: number): Iterable<Chunk> {
  const plain: Statement = db.prepare(PLAIN);
  const others: Statement = db.prepare(OTHERS);
  for (let after = afterSeq; after < lastSeq; ) {
    const rows: EventRow[] = [];
    let until = Math.min(after + CHUNK_EVENTS, lastSeq);
    let bytes = 0;
    for (const row of others.iterate(after, until) as Iterable<EventRow>) {
      rows.push(row);
      bytes += (row.key?.length ?? 0) + (row.value?.length ?? 0);
      if (bytes > OTHERS_BYTES) until = row.seq;
      if (until === row.seq) break;
    }
    yield { plain: plain.get(after, until) as PlainColumns, others: rows, until };
    after = until;
  }
}

/** A chunk's events, ascending, as EventLog.changes() yields them. */
export function chunkEvents({ plain, others }: Chunk): Event[] {
  const changes = elementChanges(plain);
  if (others.length === 0) return changes;
  const events: Event[] = [];
  let next = 0;
  for (const row of others) {
    for (; (changes[next]?.seq ?? row.seq) < row.seq; next++) events.push(changes[next] as Event);
    events.push(rowEvent(row));
  }
  for (; next < changes.length; next++) events.push(changes[next] as Event);
  return events;
}

function elementChanges({ seqs, ...columns }: PlainColumns): Event[] {
  if (seqs === null) return [];
  const outs = JSON.parse(columns.outs) as (Out | null)[];
  const cmds = numbers(columns.cmds);
  const maps = numbers(columns.maps);
  const keyBytes = numbers(columns.keyBytes);
  const valueBytes = numbers(columns.valueBytes);
  const keys = new Cutter(columns.keys);
  const values = new Cutter(columns.values);
  return numbers(seqs).map((seq, at) => {
    const [key, value] = [keys.cut(keyBytes[at] as number), values.cut(valueBytes[at] as number)];
    return elementChange(seq, cmds[at] as number, maps[at] as number, key, value, outs[at] ?? null);
  });
}

/**
 * Cuts a joined column into cells. Several cells share a Buffer of about the size of Node's pool (8 KiB), so that a cell
 * that is kept keeps at most that Buffer in memory, not the whole column.
 */
class Cutter {
  readonly #column: Uint8Array;
  #piece = NOTHING;
  #pieceStart = 0;
  #end = 0;

  constructor(column: Uint8Array | null) {
    this.#column = column ?? NOTHING;
  }

  cut(bytes: number): Buffer {
    const start = this.#end;
    this.#end += bytes;
    if (this.#end > this.#pieceStart + this.#piece.length) {
      this.#piece = Buffer.from(this.#column.subarray(start, start + Math.max(bytes, Buffer.poolSize)));
      this.#pieceStart = start;
    }
    return this.#piece.subarray(start - this.#pieceStart, this.#end - this.#pieceStart);
  }
}

const NOTHING = Buffer.alloc(0);

function numbers(text: string): number[] {
  return JSON.parse(text) as number[];
}
