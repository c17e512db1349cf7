/**
 * Answers queries of archived events. A segment has no index: it is unpacked into a database of its own when a query
 * first needs it, and the few that were used last stay unpacked.
 */

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { PlacedSegment } from "../archive/at_hand.ts";
import { type ArchivedPlaces, EventsArchived } from "../engine/archives.ts";
import type { EventPage, EventRange, KeptTimes, MarkedRow } from "../engine/events.ts";
import { type FoundPage, SegmentFile } from "../index/segment_file.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { Marks } from "../log/position.ts";
import type { ArchivedLog } from "./archived_log.ts";
import { UNPACKED_FOLDER } from "./layout.ts";

/** Segments that stay unpacked: the least recently used one is removed first. */
const UNPACKED_MAX = 4;

/** Segments whose sessions' peers are kept in memory. */
const PEERS_MAX = 64;

/**
 * Segments that one query of peers unpacks. If they are not enough, its answer is null, and the next query continues
 * from there.
 */
const PEERS_UNPACKED_MAX = 8;

/** The first and last session that was opened in a segment; null if none was. */
type Opened = readonly [first: number, last: number] | null;

/** The segments that a query may still unpack. */
interface Budget {
  segments: number;
}

/** Archived events, with the same queries as the log's reader. */
export class ArchivedEvents {
  readonly #archived: ArchivedLog;
  readonly #folder: string;
  /** In the order of use: the segment that was used last is the last entry. */
  readonly #unpacked = new Map<string, SegmentFile>();
  readonly #earliestUs = new Map<string, number>();
  readonly #keySizes = new Map<number, number>();
  readonly #marks: Marks;
  readonly #peers = new Map<string, ReadonlyMap<number, string | null>>();
  /** By the names of segments. */
  readonly #opened = new Map<string, Opened>();

  constructor(archived: ArchivedLog, { data }: Pick<ArchivedPlaces, "data">) {
    this.#archived = archived;
    this.#marks = new Marks(archived.log.life);
    this.#folder = join(data, UNPACKED_FOLDER);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get oldestSeq(): number {
    return this.#archived.oldestSeq;
  }

  /**
   * A page of events. It has events of a single segment; `more` says that later segments, or the log, may have more.
   */
  async query(filter: EventFilter, range: EventRange, kept: KeptTimes): Promise<EventPage> {
    const { oldestSeq } = this;
    const { through } = this.#archived.log.archived;
    const { afterSeq, beforeSeq } = range;
    const isCut = (afterSeq > 0 && afterSeq + 1 < oldestSeq) || (beforeSeq !== undefined && beforeSeq <= oldestSeq);
    if (oldestSeq > 1 && isCut) throw new EventsArchived(oldestSeq);
    const { sinceUs, untilUs } = filter;
    const since = kept.since ? through : sinceUs === undefined ? 0 : await this.lastBefore(sinceUs);
    const until = kept.until || untilUs === undefined ? through : await this.lastBefore(untilUs + 1);
    const after = Math.max(afterSeq, since, oldestSeq - 1);
    return beforeSeq === undefined
      ? this.#forward(filter, range, { after, until, through }, kept)
      : this.#backward(filter, { ...range, beforeSeq }, after, Math.min(beforeSeq - 1, until));
  }

  async #forward(
    filter: EventFilter,
    range: EventRange,
    { after, until, through }: { readonly after: number; readonly until: number; readonly through: number },
    { last }: KeptTimes,
  ): Promise<EventPage> {
    // `over`: no later event has a time in the filter's range, so the query ends here.
    const over = { rows: [], reached: last, mark: 0, lookedAt: 0, more: false, over: true };
    if (after >= until) return until < through ? over : { ...over, reached: through, more: true, over: false };
    const file = await this.#open(this.#archived.segmentOf(after + 1));
    const page = file.query(filter, { limit: range.limit }, { after, until }, (map) => this.#keySizes.get(map));
    const isOver = until < through && until <= file.through;
    if (page.more) return this.#marked(page, file);
    return this.#marked(
      isOver ? { ...page, reached: last, over: true } : { ...page, reached: file.through, more: true },
      file,
    );
  }

  async #backward(
    filter: EventFilter,
    range: EventRange & { readonly beforeSeq: number },
    after: number,
    until: number,
  ): Promise<EventPage> {
    const end = range.afterSeq + 1;
    if (after >= until) return { rows: [], reached: end, mark: 0, lookedAt: 0, more: false, over: false };
    const file = await this.#open(this.#archived.segmentOf(until));
    const page = file.query(filter, range, { after, until }, (map) => this.#keySizes.get(map));
    if (page.more) return this.#marked(page, file);
    const isEnd = file.first - 1 <= after;
    return this.#marked(isEnd ? { ...page, reached: end } : { ...page, reached: file.first, more: true }, file);
  }

  async event(seq: number): Promise<MarkedRow | null> {
    const file = await this.#open(this.#archived.segmentOf(seq));
    const row = file.event(seq);
    return row === null ? null : { ...row, mark: this.#markIn(file, seq) };
  }

  /**
   * The mark of an event, by which positions identify it (log/position.ts); 0 if its segment does not have the event.
   */
  async mark(seq: number): Promise<number | null> {
    if (seq === 0) return 0;
    return this.#markIn(await this.#open(this.#archived.segmentOf(seq)), seq);
  }

  #markIn(file: SegmentFile, seq: number): number {
    const row = file.row(seq);
    return row === null ? 0 : this.#marks.of(row);
  }

  /** The page with the marks of its events, as the log's reader returns it. */
  #marked({ rows, ...page }: FoundPage, file: SegmentFile): EventPage {
    const marked = rows.map((row) => ({ ...row, mark: this.#markIn(file, row.seq) }));
    return { ...page, rows: marked, mark: this.#markIn(file, page.reached) };
  }

  /** An event's columns as they were stored. */
  async row(seq: number): Promise<RowBytes | null> {
    return (await this.#open(this.#archived.segmentOf(seq))).row(seq);
  }

  /**
   * The peers that opened sessions. An entry is null if the event does not name a peer, if its segment is not
   * available, or if it was not found within the budget of segments. Session ids ascend from segment to segment, which
   * allows a binary search.
   */
  async peers(sessions: readonly number[]): Promise<(string | null)[]> {
    const budget = { segments: PEERS_UNPACKED_MAX };
    const peers: (string | null)[] = [];
    for (const session of sessions) peers.push(await this.#peerOf(session, budget));
    return peers;
  }

  async #peerOf(session: number, budget: Budget): Promise<string | null> {
    const { segments } = this.#archived;
    let [first, last] = [0, segments.length - 1];
    while (first <= last) {
      const middle = Math.ceil((first + last) / 2);
      // The last segment, from `first` to `middle`, in which any session was opened.
      let at = middle;
      let opened = await this.#openedIn(segments[at] as PlacedSegment, budget);
      while (opened === null && at > first) opened = await this.#openedIn(segments[--at] as PlacedSegment, budget);
      if (opened === undefined) return null;
      if (opened !== null && session >= opened[0] && session <= opened[1]) {
        const peers = await this.#peersIn(segments[at] as PlacedSegment, budget);
        return peers?.get(session) ?? null;
      }
      if (opened !== null && session < opened[0]) last = at - 1;
      else first = middle + 1;
    }
    return null;
  }

  /** undefined: the budget of segments is used up. */
  async #openedIn(segment: PlacedSegment, budget: Budget): Promise<Opened | undefined> {
    const { name } = segment;
    if (!this.#opened.has(name)) await this.#peersIn(segment, budget);
    return this.#opened.get(name);
  }

  async #peersIn(segment: PlacedSegment, budget: Budget): Promise<ReadonlyMap<number, string | null> | undefined> {
    const { name } = segment;
    const known = this.#peers.get(name);
    if (known !== undefined) return known;
    if (!this.#unpacked.has(name) && budget.segments-- <= 0) return undefined;
    const found = new Map((await this.#open(segment)).peers());
    const ids = [...found.keys()];
    this.#opened.set(name, ids.length === 0 ? null : [ids[0] as number, ids.at(-1) as number]);
    if (this.#peers.size >= PEERS_MAX) this.#peers.clear();
    if (found.size > 0) this.#peers.set(name, found);
    return found;
  }

  /**
   * The last archived event with a time before `timeUs`, 0 if there is none. Throws EventsArchived if that event is not
   * available.
   */
  async lastBefore(timeUs: number): Promise<number> {
    const { segments } = this.#archived;
    for (const segment of segments.toReversed()) {
      const earliest = this.#earliestUs.get(segment.name) ?? (await this.#open(segment)).earliestUs;
      if (earliest < timeUs) return (await this.#open(segment)).lastBefore(timeUs);
    }
    const { first } = segments[0] as PlacedSegment;
    if (first > 1) throw new EventsArchived(first);
    return 0;
  }

  close(): void {
    for (const file of this.#unpacked.values()) file.close();
    this.#unpacked.clear();
    this.#archived.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #open(segment: PlacedSegment): Promise<SegmentFile> {
    const { name } = segment;
    const known = this.#unpacked.get(name);
    const file = known ?? (await this.#unpack(segment));
    this.#unpacked.delete(name);
    this.#unpacked.set(name, file);
    return file;
  }

  async #unpack(segment: PlacedSegment): Promise<SegmentFile> {
    mkdirSync(this.#folder, { recursive: true });
    for (const name of [...this.#unpacked.keys()].slice(0, 1 - UNPACKED_MAX)) this.#remove(name);
    const path = join(this.#folder, `${segment.name}.sqlite`);
    rmSync(path, { force: true });
    const file = new SegmentFile(path, segment);
    try {
      for await (const rows of this.#archived.rows(segment)) file.add(rows);
    } catch (error) {
      file.close();
      rmSync(path, { force: true });
      throw error;
    }
    for (const [map, bytes] of file.keySizes()) this.#keySizes.set(map, bytes);
    this.#earliestUs.set(segment.name, file.earliestUs);
    return file;
  }

  #remove(name: string): void {
    this.#unpacked.get(name)?.close();
    this.#unpacked.delete(name);
    rmSync(join(this.#folder, `${name}.sqlite`), { force: true });
  }
}
