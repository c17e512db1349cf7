/**
 * The end of the log for all streams that send the same messages. The tail reads the log once, makes the text of each
 * message once, and writes the same bytes to all of these streams:
 *
 *     chunks     0        1        2        3          texts of up to 64 KiB, each with the place where it ends
 *                |        |                 |
 *     seats      slow     new               all others: at the end
 *
 * A chunk is kept until all seats have passed it, or until the tail keeps too many bytes. If a seat's next chunk is
 * dropped, the seat leaves, and its stream reads for itself (`follow.ts`). A new stream takes a seat at the end, or at
 * a place that the tail has not reached yet: the tail then ends a chunk at that place. A seat whose connection still
 * has bytes to send is skipped.
 *
 * The tail reads if the log has grown and a seat is at the end. If a read leaves events, the next one follows at once.
 * Otherwise the tail pauses: from 10 ms to 50 ms, depending on its number of seats and the time of its writes. If the
 * next event comes later than that, it is read at once.
 */

import { setImmediate as turn } from "node:timers/promises";
import type { MarkedRow } from "../../engine/events.ts";
import type { Deliveries } from "./deliveries.ts";
import { KeptChunks } from "./kept_chunks.ts";
import { Frame } from "./outlet.ts";
import type { FollowParts, Place, Reader, Subject } from "./subject.ts";
import { type SeatedAt, TailSeat } from "./tail_seat.ts";

/** The most events of one read. */
const READ_EVENTS = 1024;
/** Characters after which a chunk ends. */
const CHUNK_CHARACTERS = 60 * 1024;
const PAUSE_LEAST_MS = 10;
const PAUSE_MOST_MS = 50;
/**
 * From the beginning of a read to the next: this many times the duration of the read and its writes, or this time for
 * each seat, if that is longer. A write takes about 10 us.
 */
const PAUSE_TIMES = 4;
const PAUSE_MS_A_SEAT = 0.5;
/** If too many bytes are kept, and most seats still need the first chunk, the tail waits for them up to this time. */
const PATIENCE_MS = 500;
const PATIENCE_STEP_MS = 20;
/** A part of the time between two bookmarks. Bookmarks that become due within it are written together. */
const BEAT_PART = 1 / 20;
const MS = 1000;

/** The counts of all shared tails since the start. */
export interface TailFigures {
  /** Reads of the log. */
  reads: number;
  /** Messages whose text was made, once for all seats. */
  messages: number;
}

/** The parts of the service that a tail uses. */
export interface TailHost {
  readonly deliveries: Deliveries;
  readonly figures: TailFigures;
  /** The most bytes that one tail may keep at present. */
  readonly keptMax: () => number;
  /** Counts bytes that the tail keeps; a negative number: bytes that it has dropped. */
  readonly hold: (bytes: number) => void;
  /** Called when nobody can take a seat any more. */
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
  /** The seats whose places the tail has not reached yet. */
  readonly #coming = new Set<TailSeat>();
  /** The lowest seq of these places: the next chunk ends there. */
  #cut = Number.POSITIVE_INFINITY;
  #place: Place;
  #isOver = false;
  /** Whether a seat may be at the end, so that the tail has to read. */
  #isWanted = false;
  #isLagging = false;
  /** Seats that chunks are being written to. */
  readonly #due = new Set<TailSeat>();
  #whenDelivered: (() => void) | null = null;
  #wake: (() => void) | null = null;
  /** The time at which the tail looks next for bookmarks that are due. */
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

  /** The number of seats. */
  get size(): number {
    return this.#seats.size;
  }

  get place(): Place {
    return this.#place;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** Makes a seat at a place; null: the tail is beyond it. */
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
    // A signal that was aborted before does not call the seat's listener.
    if (reader.signal.aborted) seat.leave(null);
    return seat;
  }

  async #run(): Promise<void> {
    // The caller that made this tail takes a seat before the first look at the seats.
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

  /** Waits until a seat needs events that the log has, bookmarks may be due, or no seat is left. */
  async #untilWanted(): Promise<void> {
    while (this.#seats.size > 0 && !this.#canRead) {
      const ms = this.#beatMs - performance.now();
      if (ms <= 0) return;
      const unwatch = this.#engine.onGrowth(() => this.#canRead && this.#wake?.());
      await this.#sleep(ms, true);
      unwatch();
    }
  }

  /** `isEnded`: #wake ends the sleep early. */
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

  /** Reads the next events, and delivers their messages. Returns whether the log has more. */
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

  /** Makes chunks of the events' messages, one in each turn of the event loop. */
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

  /** Gives the next chunk to seats whose place is the event `seq` or an earlier one. */
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

  /** Writes chunks or a bookmark to each ready seat that `wanted` selects. Resolves when all of these are served. */
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

  /** Delivers chunks that were read a while ago, if the caller may still see them. */
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

  /** Drops chunks that all seats have passed. */
  #trim(): void {
    let least = this.chunks.end;
    for (const { next } of this.#seats) if (next !== null && next < least) least = next;
    this.chunks.drop(least);
  }

  /** Drops the first chunks until the tail keeps no more bytes than it may, after a wait for seats that need them. */
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

  /** Writes bookmarks to seats that have not been sent anything for the bookmark interval. */
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
