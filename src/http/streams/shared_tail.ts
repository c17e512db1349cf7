/**
 * The end of the log for all streams that are told the same. It reads the log once, writes each message as text once,
 * and gives the same bytes to all of them:
 *
 *     chunks     0        1        2        3          texts of up to 64 KiB, each with the place behind it
 *                |        |                 |
 *     seats      slow     new               all others: at the end
 *
 * A chunk is kept until all seats are behind it, or until there are too many bytes: a seat before it then leaves, and
 * its stream reads for itself (`follow.ts`). A stream that comes takes a seat at the end, or at a place that the tail
 * has not come to yet: the tail cuts a chunk there. A seat whose connection has not taken what was written before is
 * passed over.
 *
 * The tail reads when the log has grown and a seat is at the end. Reads are apart by 10 to 50 ms, the more the more seats
 * there are and the longer the writes take; after a rest the next event is read at once.
 */

import { setImmediate as turn } from "node:timers/promises";
import type { MarkedRow } from "../../engine/events.ts";
import type { Deliveries } from "./deliveries.ts";
import { KeptChunks } from "./kept_chunks.ts";
import { Frame } from "./outlet.ts";
import type { FollowParts, Place, Reader, Subject } from "./subject.ts";
import { type SeatedAt, TailSeat } from "./tail_seat.ts";

/** Events that are read at once. */
const READ_EVENTS = 1024;
/** Characters after which a chunk ends. */
const CHUNK_CHARACTERS = 60 * 1024;
const PAUSE_LEAST_MS = 10;
const PAUSE_MOST_MS = 50;
/** The pause is so many times as long as reading and writing took, and so long for each seat: a write takes about 10 us. */
const PAUSE_TIMES = 4;
const PAUSE_MS_A_SEAT = 0.5;
/** While most seats are before too many bytes, the tail waits for them, at most so long. */
const PATIENCE_MS = 500;
const PATIENCE_STEP_MS = 20;
/** Of the time between two bookmarks: those that are due within it are written together. */
const BEAT_PART = 1 / 20;
const MS = 1000;

/** What shared tails have done since the start. */
export interface TailFigures {
  /** Reads of the log. */
  reads: number;
  /** Messages that were written as text, once for all. */
  messages: number;
}

/** What a tail has of the service. */
export interface TailHost {
  readonly deliveries: Deliveries;
  readonly figures: TailFigures;
  /** Bytes that one tail may keep at present. */
  readonly keptMax: () => number;
  /** Bytes that are kept; less than 0: not any more. */
  readonly hold: (bytes: number) => void;
  /** Nobody can take a seat any more. */
  readonly ended: () => void;
}

export class SharedTail implements SeatedAt {
  readonly chunks: KeptChunks;
  readonly bookmarkMs: number;
  readonly #lagMax: number;
  readonly #engine: FollowParts["engine"];
  readonly #subject: Subject;
  readonly #host: TailHost;
  readonly #seats = new Set<TailSeat>();
  /** Those of them whose places the tail has not come to. */
  readonly #coming = new Set<TailSeat>();
  /** The least of their places. */
  #cut = Number.POSITIVE_INFINITY;
  #place: Place;
  #isOver = false;
  /** Whether a seat may be at the end, so that more is to be read. */
  #isWanted = false;
  #isLagging = false;
  /** Seats that are being delivered something. */
  readonly #due = new Set<TailSeat>();
  #whenDelivered: (() => void) | null = null;
  #wake: (() => void) | null = null;
  /** When bookmarks are looked at. */
  #beatMs: number;
  #bookmark: { readonly seq: number; readonly frame: Frame } | null = null;

  constructor({ engine, settings }: FollowParts, subject: Subject, place: Omit<Place, "told">, host: TailHost) {
    this.#engine = engine;
    this.#lagMax = settings.lagEventsMax;
    this.bookmarkMs = settings.bookmarkSeconds * MS;
    this.#subject = subject;
    this.#host = host;
    this.chunks = new KeptChunks(host.hold);
    this.#place = { seq: place.seq, mark: place.mark, told: 0 };
    this.#beatMs = performance.now() + this.bookmarkMs;
    void this.#run();
  }

  /** Its seats. */
  get size(): number {
    return this.#seats.size;
  }

  get place(): Place {
    return this.#place;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** null: the tail is beyond the place. */
  seat({ seq, mark }: Omit<Place, "told">, reader: Reader): TailSeat | null {
    const { place } = this;
    if (seq < place.seq || (seq === place.seq && place.told > 0)) return null;
    const isAtEnd = seq === place.seq;
    const seat = new TailSeat(this, { seq, mark, told: 0 }, isAtEnd ? this.chunks.end : null, reader);
    this.#seats.add(seat);
    if (!isAtEnd) {
      this.#coming.add(seat);
      this.#cut = Math.min(this.#cut, seq);
      this.#isWanted = true;
    }
    // A signal that has been aborted tells nobody who listens to it now.
    if (reader.signal.aborted) seat.leave(null);
    return seat;
  }

  async #run(): Promise<void> {
    // Whoever has opened it takes a seat first.
    await Promise.resolve();
    let readMs = Number.NEGATIVE_INFINITY;
    let pauseMs = 0;
    try {
      while (this.#seats.size > 0 && !this.#isOver) {
        await this.#untilWanted();
        if (performance.now() >= this.#beatMs) await this.#beat();
        await this.#sleep(readMs + pauseMs - performance.now());
        if (this.#seats.size === 0 || !this.#canRead) continue;
        readMs = performance.now();
        const more = await this.#read();
        const tookMs = performance.now() - readMs;
        const workMs = Math.max(tookMs * PAUSE_TIMES, this.#seats.size * PAUSE_MS_A_SEAT);
        pauseMs = more ? 0 : Math.min(Math.max(workMs, PAUSE_LEAST_MS), PAUSE_MOST_MS);
        await this.#makeRoom();
      }
    } catch (error) {
      for (const seat of [...this.#seats]) seat.fail(error as Error);
    }
    this.#host.ended();
  }

  get #canRead(): boolean {
    return this.#isWanted && this.#engine.seq > this.place.seq;
  }

  /** Until there is something to read for somebody, or bookmarks are due, or nobody is left. */
  async #untilWanted(): Promise<void> {
    while (this.#seats.size > 0 && !this.#canRead) {
      const ms = this.#beatMs - performance.now();
      if (ms <= 0) return;
      const unwatch = this.#engine.onGrowth(() => this.#canRead && this.#wake?.());
      await this.#sleep(ms, true);
      unwatch();
    }
  }

  /** `isEnded`: whatever happens to a seat ends it. */
  #sleep(ms: number, isEnded = false): Promise<void> {
    if (ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
      const timer = setTimeout(done, ms);
      if (isEnded) this.#wake = done;
    });
  }

  /** Reads what follows, and delivers it. Answers whether there is more. */
  async #read(): Promise<boolean> {
    this.#host.figures.reads++;
    const page = await this.#subject.query({ afterSeq: this.place.seq, limit: READ_EVENTS });
    if (!(await this.#subject.isSeen())) {
      this.#isOver = true;
      for (const seat of [...this.#seats]) seat.leave(null);
      return false;
    }
    const last = page.rows.findIndex((row) => this.#subject.isLast(row));
    const rows = last === -1 ? page.rows : page.rows.slice(0, last + 1);
    if (rows.length > 0) await this.#write(rows);
    if (last === -1 && page.reached > this.place.seq) this.#place = { seq: page.reached, mark: page.mark, told: 0 };
    this.#seatUpTo(this.place.seq);
    this.#isOver = last !== -1 || (page.over && !page.more);
    const isLagging = this.isLagging(this.place.seq);
    const isNews = rows.length > 0 || this.#isOver || isLagging !== this.#isLagging;
    this.#isLagging = isLagging;
    if (isNews) await this.#deliver();
    this.#isWanted = this.#coming.size > 0;
    for (const seat of this.#seats) if (seat.isReady && seat.isAtEnd) this.#isWanted = true;
    return page.more;
  }

  /** Writes texts of events, once for all seats, as many in a turn as a chunk has. */
  async #write(rows: readonly MarkedRow[]): Promise<void> {
    const messagesOf = await this.#subject.telling(rows);
    let text = "";
    let place = this.place;
    const end = (): void => {
      if (text !== "") this.chunks.add(text, place);
      text = "";
      this.#place = place;
    };
    for (const row of rows) {
      const whole = { seq: row.seq, mark: row.mark, told: 0 };
      if (this.#cut < row.seq) {
        end();
        this.#seatUpTo(row.seq - 1);
      }
      if (this.#subject.isLarge(row)) {
        end();
        this.chunks.add(null, whole);
      } else
        for (const { texts, told } of messagesOf(row)) {
          for (const piece of texts) text += piece;
          this.#host.figures.messages++;
          place = told === 0 ? whole : { seq: row.seq - 1, mark: 0, told };
          if (text.length < CHUNK_CHARACTERS) continue;
          end();
          await turn();
        }
      place = whole;
    }
    end();
  }

  /** Whoever has been told up to there, or to an event before it, goes on with the next chunk. */
  #seatUpTo(seq: number): void {
    if (this.#cut > seq) return;
    this.#cut = Number.POSITIVE_INFINITY;
    for (const seat of this.#coming)
      if (seat.seq > seq) this.#cut = Math.min(this.#cut, seat.seq);
      else {
        seat.next = this.chunks.end;
        this.#coming.delete(seat);
      }
  }

  /** Gives to each seat what it can take; resolves when all have it. */
  async #deliver(wanted: (seat: TailSeat) => boolean = () => true): Promise<void> {
    for (const seat of this.#seats) if (seat.isReady && wanted(seat)) this.#makeDue(seat);
    if (this.#due.size > 0) await new Promise<void>((resolve) => (this.#whenDelivered = resolve));
  }

  #makeDue(seat: TailSeat): void {
    if (this.#due.has(seat)) return;
    this.#due.add(seat);
    this.#host.deliveries.add(seat);
  }

  delivered(seat: TailSeat, isMore: boolean): void {
    if (isMore) this.#host.deliveries.add(seat);
    else this.#undue(seat);
  }

  #undue(seat: TailSeat): void {
    this.#due.delete(seat);
    if (this.#due.size > 0) return;
    this.#whenDelivered?.();
    this.#whenDelivered = null;
  }

  freed(seat: TailSeat): void {
    if (!this.#seats.has(seat) || !seat.isReady) return;
    if (seat.isAtEnd && !this.#isOver) {
      this.#isWanted = true;
      this.#wake?.();
    } else if (this.#subject.isKept) void this.#stillSeen(seat);
    else seat.leaveForItself();
  }

  /** What was read a while ago is told if it may still be. */
  async #stillSeen(seat: TailSeat): Promise<void> {
    try {
      if (!(await this.#subject.isSeen())) seat.leave(null);
      else if (this.#seats.has(seat) && seat.isReady) this.#makeDue(seat);
    } catch (error) {
      seat.fail(error as Error);
    }
  }

  left(seat: TailSeat): void {
    this.#seats.delete(seat);
    this.#coming.delete(seat);
    this.#undue(seat);
    if (this.#seats.size > 0) return;
    this.#trim();
    this.#wake?.();
  }

  /** Chunks that all seats are behind are not kept. */
  #trim(): void {
    let least = this.chunks.end;
    for (const { next } of this.#seats) if (next !== null && next < least) least = next;
    this.chunks.drop(least);
  }

  /** So that no more is kept than may be. */
  async #makeRoom(): Promise<void> {
    const max = (): number => (this.#seats.size > 1 ? this.#host.keptMax() : 0);
    this.#trim();
    const endMs = performance.now() + PATIENCE_MS;
    while (this.chunks.bytes > max() && this.#mostAreBefore() && performance.now() < endMs) {
      await this.#sleep(PATIENCE_STEP_MS);
      this.#trim();
    }
    while (this.chunks.bytes > max()) this.chunks.drop(this.chunks.first + 1);
  }

  #mostAreBefore(): boolean {
    let count = 0;
    for (const { next } of this.#seats) if (next === this.chunks.first) count++;
    return count > this.#seats.size / 2 && count > 1;
  }

  /** Bookmarks for seats that nothing has been told for long. */
  async #beat(): Promise<void> {
    const nowMs = performance.now();
    await this.#deliver((seat) => seat.isAtEnd && seat.bookmarkDueMs <= nowMs);
    let dueMs = nowMs + this.bookmarkMs;
    for (const seat of this.#seats) if (seat.isReady && seat.isAtEnd) dueMs = Math.min(dueMs, seat.bookmarkDueMs);
    this.#beatMs = Math.max(dueMs, nowMs + this.bookmarkMs * BEAT_PART);
  }

  bookmark(): Frame {
    const { seq, mark } = this.place;
    if (this.#bookmark?.seq !== seq) this.#bookmark = { seq, frame: new Frame(this.#subject.bookmark(seq, mark)) };
    return this.#bookmark.frame;
  }

  isLagging(seq: number): boolean {
    return this.#engine.seq - seq > this.#lagMax;
  }

  lagging({ seq, mark }: Place): string {
    return this.#subject.lagging(seq, mark, this.#engine.seq);
  }
}
