import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { PlacedSegment } from "../archive/at_hand.ts";
import { EventsArchived } from "../engine/archives.ts";
import type { EventPage, EventRange, KeptTimes, MarkedRow } from "../engine/events.ts";
import { type FoundPage, SegmentFile } from "../index/segment_file.ts";
import type { RowBytes } from "../log/canonical.ts";
import type { EventFilter } from "../log/event_filter.ts";
import { Marks } from "../log/position.ts";
import type { ArchivedLog, ArchivedPlaces } from "./archived_log.ts";
import { UNPACKED_FOLDER } from "./layout.ts";

/** Segments that stay unpacked, those that were used last. */
const UNPACKED_MAX = 4;

/** Segments whose sessions' peers are remembered. */
const PEERS_MAX = 64;

/** Segments that are unpacked for one question about peers: it may be asked again, and goes on. */
const PEERS_UNPACKED_MAX = 8;

/** The first and the last session that was opened in a segment; null: none was. */
type Opened = readonly [first: number, last: number] | null;

/** What one question may still have unpacked. */
interface Budget {
  segments: number;
}

/** Archived events as the log's reader gives those that it has: a segment is unpacked when it is asked for. */
export class ArchivedEvents {
  readonly #archived: ArchivedLog;
  readonly #folder: string;
  /** The last one that was used is the last. */
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

  /** Of one segment at a time: `more` says that it goes on behind it, or with the log. */
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
    // Nothing that comes later is stamped so early.
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

  /** By which positions know an event. */
  async mark(seq: number): Promise<number | null> {
    if (seq === 0) return 0;
    return this.#markIn(await this.#open(this.#archived.segmentOf(seq)), seq);
  }

  #markIn(file: SegmentFile, seq: number): number {
    const row = file.row(seq);
    return row === null ? 0 : this.#marks.of(row);
  }

  /** As the log's reader has it, with the marks of its events; 0 of one that is not in the segment. */
  #marked({ rows, ...page }: FoundPage, file: SegmentFile): EventPage {
    const marked = rows.map((row) => ({ ...row, mark: this.#markIn(file, row.seq) }));
    return { ...page, rows: marked, mark: this.#markIn(file, page.reached) };
  }

  /** An event's columns as they were stored. */
  async row(seq: number): Promise<RowBytes | null> {
    return (await this.#open(this.#archived.segmentOf(seq))).row(seq);
  }

  /** From where sessions were opened; null: it is not said, not at hand, or not found yet. Their ids ascend from segment to segment. */
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
      // The last one up to there that any session was opened in.
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

  /** undefined: enough has been unpacked. */
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

  /** The last archived event that is stamped before a moment; 0 where there is none. Throws EventsArchived where it is not at hand. */
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
