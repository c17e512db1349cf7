/**
 * Finds events by map, session, caller, command, errno, key and time. The index is computed from the log after its
 * commit. It has segments of consecutive events: those that are stored never change, and the newest one grows in memory
 * (`open_segment.ts`) until it is full, or the log rests. Events that no segment has yet are searched in the log itself
 * (`log_scan.ts`). So no query waits for the index: a page ends after a bounded amount of work, and says up to which
 * event it has examined the log.
 *
 * The index also keeps the peer of each session, and the maps that events touched. It takes events in before they are
 * archived, so it has these of archived events, too.
 */

import Sqlite, { type Database, type Statement } from "better-sqlite3";
import { CMD } from "../abi/service.ts";
import { type Archived, checkKept } from "../engine/archives.ts";
import type { EventPage, EventRange, KeptTimes, MarkedRow } from "../engine/events.ts";
import type { SortedStore } from "../engine/ports.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import { type EventFilter, matches } from "../log/event_filter.ts";
import { effectsIn, openedPeer, touchedKeys } from "../log/event_subjects.ts";
import { Marks } from "../log/position.ts";
import { type CellKey, compareKeys } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";
import { ARCHIVED, readArchived } from "../sqlite/archive_facts.ts";
import { LIFE, LOG_ID } from "../sqlite/facts.ts";
import { WHOLE_ROW } from "../sqlite/log_rows.ts";
import { LogTimes, type Stretch } from "../sqlite/log_times.ts";
import { type Asked, askedOf, asksNothing, keySizeKey, peerKey, u48Bytes, u48In } from "./facets.ts";
import { keyBytesIn } from "./key_bytes.ts";
import { CHUNK_EVENTS, LogColumns } from "./log_columns.ts";
import { LogScan } from "./log_scan.ts";
import { OpenSegment } from "./open_segment.ts";
import { Page } from "./page.ts";
import { Search, type SearchedSegment } from "./search.ts";
import { type IndexInfo, infoCell, readInfo, StoredSegments } from "./stored_segments.ts";

const FACT = "SELECT value FROM ledger WHERE name = ?";
const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const EVENT = "SELECT * FROM events WHERE seq = ?";
const OPENINGS = `SELECT attr, out FROM events WHERE seq > ? AND seq <= ? AND cmd = ${CMD.SESSION_OPEN} ORDER BY seq`;

/** Stands in a text in place of bytes that are not UTF-8. */
const REPLACEMENT = "\ufffd";

/** The search of one segment counts as this many examined events. */
const SEGMENT_LOOKS = 64;
/** When the log rests, a segment of fewer events is not stored, because many small segments make searches slow. */
const RESTED_EVENTS = 4096;
/** The most events without an index that one query searches for openings of sessions. */
const OPENINGS_LOOKED_AT = 1_000_000;
/** The most sessions whose peers are remembered until the index has them. */
const PEERS_MAX = 262_144;
/** The most segments that are searched to know whether a map was changed. */
const SEGMENTS_READ = 2500;
/** The most maps whose key sizes are remembered. */
const KEY_SIZES_MAX = 65_536;

type FoundPage = Omit<EventPage, "rows" | "mark"> & { readonly rows: readonly EventRow[] };

/** An examined event. `row` null: it does not match. `looked`: the number of events that were examined up to it. */
interface Look {
  readonly at: number;
  readonly row: EventRow | null;
  readonly looked: number;
}

/** The store of an index that has stored nothing. */
const NO_STORE: Pick<SortedStore, "get" | "range" | "rangeDown"> = {
  get: () => undefined,
  range: () => [],
  rangeDown: () => [],
};

/** Queries over the log. */
export class EventIndex {
  readonly #db: Database;
  readonly logId: string;
  readonly #store: SortedStore | null;
  readonly #event: Statement;
  readonly #wholeRow: Statement;
  readonly #last: Statement;
  readonly #archived: Statement;
  readonly #openings: Statement;
  readonly #times: LogTimes;
  readonly #marks: Marks;
  readonly #columns: LogColumns;
  readonly #scan: LogScan;
  #info: Omit<IndexInfo, "layout">;
  #stored: StoredSegments;
  #open: OpenSegment;
  #writing: Promise<void> | null = null;
  #isUnwritten = false;
  readonly #keySizes = new Map<number, number>();
  /** The peers of sessions whose opening is not indexed yet, as far as the log was searched for them. */
  readonly #unindexedPeers = new Map<number, string>();
  #searchedForPeers = 0;

  /**
   * The log must exist. `store`: the index's, which it closes; null: there is none, and all events are searched in the
   * log. Throws Damaged if the store's segments are not those of this log.
   */
  constructor(logFile: string, store: SortedStore | null) {
    this.#db = new Sqlite(logFile, { fileMustExist: true });
    try {
      this.#event = this.#db.prepare(EVENT);
      this.#wholeRow = this.#db.prepare(WHOLE_ROW).raw();
      this.#last = this.#db.prepare(LAST_SEQ).pluck();
      this.#archived = this.#db.prepare(FACT).pluck();
      this.#openings = this.#db.prepare(OPENINGS);
      this.#times = new LogTimes(this.#db);
      this.#columns = new LogColumns(this.#db);
      this.#scan = new LogScan(this.#db);
      this.logId = this.#fact(LOG_ID);
      this.#marks = new Marks(this.#fact(LIFE));
      this.#store = store;
      const end = store?.seq ?? 0;
      const info = store === null ? null : readInfo(store);
      this.#info = info ?? { log: this.logId, since: 0, hasSizes: true };
      this.#stored = new StoredSegments(store ?? NO_STORE, this.#info.since, end);
      this.#open = new OpenSegment(end + 1, (map) => this.#keySizeOf(map));
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  /** The log's fact about its archived events. */
  archived(): Archived {
    return readArchived(this.#archived.get(ARCHIVED) as string | undefined);
  }

  /** Whether events that the index has not taken in are archived: it can continue only after begin(). */
  isCutOff(): boolean {
    return this.seq < this.archived().through;
  }

  /**
   * Begins after the event `seq`, up to which events are archived. `maps`: the maps at that event, for the sizes of
   * their keys; null: unknown. Call only if the index is empty: it has no use for entries before a gap.
   */
  async begin(seq: number, maps: readonly Pick<MapRecord, "id" | "keySize">[] | null): Promise<void> {
    const info = { log: this.logId, since: seq, hasSizes: maps !== null };
    const sizes = (maps ?? []).map(({ id, keySize }): [CellKey, Buffer] => [keySizeKey(id), u48Bytes(keySize)]);
    await this.#store?.write(inOrder([infoCell(info), ...sizes]), seq, bytesOf(sizes));
    this.#info = info;
    this.#stored = new StoredSegments(this.#store ?? NO_STORE, seq, seq);
    this.#open = new OpenSegment(seq + 1, (map) => this.#keySizeOf(map));
  }

  /** Whether the index has taken in nothing yet. */
  isEmpty(): boolean {
    return this.seq === 0;
  }

  lastSeq(): number {
    return this.#last.get() as number;
  }

  event(seq: number): MarkedRow | null {
    const row = this.#row(seq);
    return row === undefined ? null : this.#marked(row);
  }

  /** As EventReader has it. */
  mark(seq: number): number | null {
    if (seq === 0) return 0;
    const row = this.#row(seq);
    return row === undefined ? null : this.#markOf(row);
  }

  /** As EventReader has it, also for archived events. */
  isUntouched(map: number, afterSeq: number, untilSeq: number): boolean {
    if (afterSeq < this.#info.since || untilSeq > this.seq) return false;
    const asked: Asked = {
      having: [{ facet: "map", value: map }],
      lacking: [{ facet: "reading", value: 0 }],
      key: null,
    };
    const search = new Search(asked);
    let left = SEGMENTS_READ;
    for (const segment of this.#segments(asked, afterSeq, untilSeq, false)) {
      if (search.has(segment, afterSeq, untilSeq) || --left === 0) return false;
    }
    return true;
  }

  /** Whether the index has all events but a last few, which are searched faster than indexed, and no write is left. */
  isWhole(): boolean {
    return !this.#isUnwritten && !this.hasChunk();
  }

  /** Whether there are enough new events for a chunk. */
  hasChunk(): boolean {
    return this.lastSeq() - this.seq >= CHUNK_EVENTS;
  }

  /** Whether the newest events were to be stored, and could not be. */
  get isUnwritten(): boolean {
    return this.#isUnwritten;
  }

  /**
   * Indexes a chunk of new events, up to `end` at most. Resolves to whether there are more. Rejects if a full segment
   * cannot be stored.
   */
  async catchUp(end = Number.POSITIVE_INFINITY): Promise<boolean> {
    await this.#writing;
    if (this.#open.isFull) await this.write();
    const last = Math.min(this.lastSeq(), end);
    if (this.seq >= last || this.isCutOff()) return false;
    this.#open.takeIn(this.#columns, last);
    if (this.seq >= this.#searchedForPeers) this.#unindexedPeers.clear();
    return this.seq < last;
  }

  /** Call when the log rests: stores the newest events if they are enough for a segment. */
  async rest(): Promise<void> {
    if (this.#open.count >= RESTED_EVENTS || this.#open.isFull) await this.write();
  }

  /** Stores the newest events as a segment. */
  write(): Promise<void> {
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  async #write(): Promise<void> {
    const { first, last, count } = this.#open;
    if (this.#store === null || count === 0) return;
    const cells = [infoCell(this.#info), ...this.#open.cells()];
    this.#isUnwritten = true;
    await this.#store.write(inOrder(cells), last, bytesOf(cells));
    this.#isUnwritten = false;
    this.#stored.push(first, last);
    this.#open = new OpenSegment(last + 1, (map) => this.#keySizeOf(map));
  }

  /** Throws EventsArchived, as EventReader has it. */
  query(filter: EventFilter, asked: EventRange): EventPage {
    const { through } = this.archived();
    checkKept(through, asked);
    const { beforeSeq, limit } = asked;
    const afterSeq = Math.max(asked.afterSeq, through);
    const isBackward = beforeSeq !== undefined;
    const last = this.lastSeq();
    const stretch = this.#between(filter, afterSeq, Math.min((beforeSeq ?? last + 1) - 1, last), last);
    const page = new Page(limit);
    let more = false;
    for (const { at, row, looked } of this.#looks(filter, stretch, isBackward, page)) {
      if (page.look(at, row, looked)) continue;
      more = true;
      break;
    }
    const { rows, reached, lookedAt } = page.taken;
    const end = isBackward ? afterSeq + 1 : Math.max(last, afterSeq);
    return this.#page({
      rows: isBackward ? rows.reverse() : rows,
      reached: more ? reached : end,
      lookedAt,
      more,
      over: !more && this.#isOver(filter, last),
    });
  }

  /** The place of the kept events relative to a filter's time range. */
  keptTimes({ sinceUs, untilUs }: EventFilter): KeptTimes {
    const { through } = this.archived();
    const last = this.lastSeq();
    const { after, until } = this.#times.between(sinceUs, untilUs, { after: through, until: last });
    return { since: after > through, until: until > through, untilSeq: until, last };
  }

  /**
   * The peers of these sessions; null: their opening events have none, or are not found yet. Each query searches up to
   * OPENINGS_LOOKED_AT more of the events that are not indexed.
   */
  peers(sessions: readonly number[]): (string | null)[] {
    const find = (): (string | undefined)[] => sessions.map((session) => this.#peerOf(session));
    const found = find();
    if (!found.includes(undefined) || !this.#searchForPeers()) return found.map((peer) => peer ?? null);
    return find().map((peer) => peer ?? null);
  }

  async close(): Promise<void> {
    await this.#writing?.catch(() => {});
    this.#db.close();
    await this.#store?.close();
  }

  /** The last event that the index has taken in. */
  get seq(): number {
    return this.#open.last;
  }

  /** Examined events, ascending or descending: those that the index finds, and those that are not indexed. */
  *#looks(filter: EventFilter, { after, until }: Stretch, isBackward: boolean, page: Page): Iterable<Look> {
    const asked = askedOf(filter);
    const indexed = asksNothing(asked) ? after : Math.max(after, Math.min(this.seq, until));
    if (isBackward) yield* this.#looksInLog(filter, { after: indexed, until }, true, page);
    if (indexed > after) yield* this.#looksInIndex(filter, asked, { after, until: indexed }, isBackward);
    if (!isBackward) yield* this.#looksInLog(filter, { after: indexed, until }, false, page);
  }

  *#looksInIndex(filter: EventFilter, asked: Asked, { after, until }: Stretch, isBackward: boolean): Iterable<Look> {
    const search = new Search(asked);
    for (const segment of this.#segments(asked, after, until, isBackward)) {
      for (const at of search.in(segment, after, until, isBackward)) {
        const row = this.#row(at);
        yield { at, row: row !== undefined && this.#isMatch(row, filter) ? row : null, looked: 1 };
      }
      const at = isBackward ? Math.max(segment.first, after + 1) : Math.min(segment.last, until);
      yield { at, row: null, looked: SEGMENT_LOOKS };
    }
  }

  /** The segments, the open one included, that may have matching events. */
  *#segments(asked: Asked, after: number, until: number, isBackward: boolean): Iterable<SearchedSegment> {
    const stored = this.#open.first - 1;
    if (isBackward && until > stored) yield this.#open;
    if (after < stored) yield* this.#stored.having(asked, after, Math.min(until, stored), isBackward);
    if (!isBackward && until > stored) yield this.#open;
  }

  /** Examined events of the log itself, as many as the page may still examine. */
  *#looksInLog(filter: EventFilter, { after, until }: Stretch, isBackward: boolean, page: Page): Iterable<Look> {
    const from = isBackward ? Math.max(after, until - page.left) : after;
    const to = isBackward ? until : Math.min(until, after + page.left);
    if (from >= to) return;
    let at = isBackward ? to + 1 : from;
    for (const row of this.#scan.rows(filter, from, to, isBackward)) {
      const looked = Math.abs(row.seq - at);
      at = row.seq;
      yield { at, row: this.#isMatch(row, filter) ? row : null, looked };
    }
    const end = isBackward ? from + 1 : to;
    if (end !== at) yield { at: end, row: null, looked: Math.abs(end - at) };
  }

  #isMatch(row: EventRow, filter: EventFilter): boolean {
    if (!matches(row, filter)) return false;
    const { key } = filter;
    if (key === undefined || key.length === 0) return true;
    const keys = touchedKeys(row, effectsIn(row), (map) => this.#keySizeOf(map) ?? keyBytesIn(row));
    return keys.some((touched) => touched.subarray(0, key.length).equals(key));
  }

  #page({ rows, ...rest }: FoundPage): EventPage {
    const marked = rows.map((row) => this.#marked(row));
    const last = marked.at(-1);
    return { rows: marked, ...rest, mark: last?.seq === rest.reached ? last.mark : (this.mark(rest.reached) ?? 0) };
  }

  #row(seq: number): EventRow | undefined {
    return this.#event.get(seq) as EventRow | undefined;
  }

  #marked(row: EventRow): MarkedRow {
    return { ...row, mark: this.#markOf(row) };
  }

  /** An event's mark, which is computed from the columns as they are stored. */
  #markOf(row: EventRow): number {
    return isExact(row) ? this.#marks.ofRow(row) : this.#marks.of(this.#wholeRow.get(row.seq) as RowBytes);
  }

  #fact(name: string): string {
    return (this.#db.prepare(FACT).pluck().get(name) as string | undefined) ?? "";
  }

  #isOver({ untilUs }: EventFilter, last: number): boolean {
    return untilUs !== undefined && (this.#times.at(last) ?? 0) > untilUs;
  }

  /** The part of a range that is within a filter's times. To find that, events after the range are examined, too. */
  #between({ sinceUs, untilUs }: EventFilter, afterSeq: number, untilSeq: number, last: number): Stretch {
    const { after, until } = this.#times.between(sinceUs, untilUs, { after: this.archived().through, until: last });
    return { after: Math.max(after, afterSeq), until: Math.min(until, untilSeq) };
  }

  #keySizeOf(map: number): number | undefined {
    const known = this.#open.keySizes.get(map) ?? this.#keySizes.get(map);
    if (known !== undefined) return known;
    const bytes = this.#store?.get(keySizeKey(map));
    if (bytes === undefined) return undefined;
    if (this.#keySizes.size >= KEY_SIZES_MAX) this.#keySizes.clear();
    const size = u48In(bytes);
    this.#keySizes.set(map, size);
    return size;
  }

  #peerOf(session: number): string | undefined {
    const known = this.#open.peers.get(session) ?? this.#unindexedPeers.get(session);
    return known ?? this.#store?.get(peerKey(session))?.toString();
  }

  /** Searches more of the events that are not indexed. Returns whether any were left. */
  #searchForPeers(): boolean {
    const after = Math.max(this.#searchedForPeers, this.seq, this.archived().through);
    const until = Math.min(this.lastSeq(), after + OPENINGS_LOOKED_AT);
    if (until <= after) return false;
    for (const row of this.#openings.iterate(after, until) as Iterable<Pick<EventRow, "attr" | "out">>) {
      const opened = openedPeer(row, effectsIn(row));
      if (opened !== null) this.#unindexedPeers.set(opened.session, opened.peer);
    }
    for (const session of this.#unindexedPeers.keys()) {
      if (this.#unindexedPeers.size <= PEERS_MAX) break;
      this.#unindexedPeers.delete(session);
    }
    this.#searchedForPeers = until;
    return true;
  }
}

/** Whether a row has exactly the stored values: no large number was rounded, and no text was repaired. */
function isExact({ flags, caller, detail, attr, out }: EventRow): boolean {
  return (
    Number.isSafeInteger(flags) && ![caller, detail, attr, out].some((text) => text?.includes(REPLACEMENT) === true)
  );
}

function inOrder(cells: readonly (readonly [CellKey, Buffer])[]): readonly (readonly [CellKey, Buffer])[] {
  return [...cells].sort(([a], [b]) => compareKeys(a, b));
}

function bytesOf(cells: readonly (readonly [CellKey, Buffer])[]): number {
  return cells.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
}
