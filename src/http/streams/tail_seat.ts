/** A stream's seat at a shared tail (`shared_tail.ts`), which writes chunks to the stream's connection. */

import { SMALL_BYTES } from "../server/flight.ts";
import type { Delivery } from "./deliveries.ts";
import type { KeptChunks } from "./kept_chunks.ts";
import type { Frame } from "./outlet.ts";
import type { Place, Reader } from "./subject.ts";

/** After this many bytes to one seat, the other seats have their turn. */
const TURN_BYTES = 256 * 1024;

/** The progress of a stream. */
export interface Standing extends Place {
  /** The time of the last message that was sent. */
  readonly toldMs: number;
  readonly isLagging: boolean;
}

/** The tail, as its seats use it. */
export interface SeatedAt {
  readonly chunks: KeptChunks;
  readonly place: Place;
  /** No further message can follow. */
  readonly isOver: boolean;
  readonly bookmarkMs: number;
  /** Whether a place is so far behind the log's end that the reader gets a `lagging` message. */
  isLagging(seq: number): boolean;
  bookmark(): Frame;
  lagging(place: Place): string;
  /** Called when chunks have been written to a seat; `isMore`: it is ready for further ones that exist already. */
  delivered(seat: TailSeat, isMore: boolean): void;
  /** Called when a seat's connection can be written to again. */
  freed(seat: TailSeat): void;
  left(seat: TailSeat): void;
}

export class TailSeat implements Delivery {
  readonly #tail: SeatedAt;
  readonly #reader: Reader;
  readonly #done = Promise.withResolvers<Standing | null>();
  readonly #gone = (): void => this.leave(null);
  #place: Place;
  #toldMs = 0;
  #isLagging = false;
  #isTaken = false;
  #isStuck = false;
  #hasLeft = false;
  /** The number of the next chunk for this seat; null: the tail has not reached the seat's place yet. */
  next: number | null;

  constructor(tail: SeatedAt, place: Place, next: number | null, reader: Reader) {
    this.#tail = tail;
    this.#place = place;
    this.next = next;
    this.#reader = reader;
    // The promise may be rejected before take() has returned it to anybody.
    this.#done.promise.catch(() => {});
    reader.signal.addEventListener("abort", this.#gone);
  }

  get seq(): number {
    return this.#place.seq;
  }

  /** Whether a chunk or a bookmark can be written to this seat. */
  get isReady(): boolean {
    return this.#isTaken && !this.#isStuck && !this.#hasLeft && !this.#reader.outlet.isGone && this.next !== null;
  }

  get isAtEnd(): boolean {
    return this.next === this.#tail.chunks.end;
  }

  get bookmarkDueMs(): number {
    return this.#toldMs + this.#tail.bookmarkMs;
  }

  /**
   * Call when the stream has been sent everything up to the seat's place. Resolves to the stream's progress when it
   * must read for itself; null: no message can follow, or the reader is gone.
   */
  take({ toldMs, isLagging }: Pick<Standing, "toldMs" | "isLagging">): Promise<Standing | null> {
    this.#toldMs = toldMs;
    this.#isLagging = isLagging;
    this.#isTaken = true;
    this.#waitIfStuck();
    if (!this.#isStuck) this.#tail.freed(this);
    return this.#done.promise;
  }

  leave(standing: Standing | null): void {
    this.#leaves();
    this.#done.resolve(standing);
  }

  /** Leaves the tail: the stream must read for itself. */
  leaveForItself(): void {
    this.leave({ ...this.#place, toldMs: this.#toldMs, isLagging: this.#isLagging });
  }

  fail(error: Error): void {
    this.#leaves();
    this.#done.reject(error);
  }

  #leaves(): void {
    this.#hasLeft = true;
    this.#reader.signal.removeEventListener("abort", this.#gone);
    this.#tail.left(this);
  }

  deliver(nowMs: number): void {
    if (this.#hasLeft) return;
    const { chunks } = this.#tail;
    let bytes = 0;
    while (this.next !== null && this.next < chunks.end && !this.#waitIfStuck() && bytes < TURN_BYTES) {
      const chunk = chunks.at(this.next);
      if (chunk === undefined || chunk.frame === null) {
        this.#tail.delivered(this, false);
        this.leaveForItself();
        return;
      }
      this.#write(chunk.frame, nowMs);
      bytes += chunk.frame.bytes.length;
      this.next++;
      this.#place = chunk.to;
      this.#tellOfLag(nowMs);
    }
    const isMore = this.isReady && !this.isAtEnd;
    this.#tail.delivered(this, isMore);
    if (isMore || !this.isAtEnd) return;
    if (this.#tail.isOver) this.leave(null);
    else if (!this.#waitIfStuck()) this.#tellOfEnd(nowMs);
  }

  /** At the end of the tail: moves to the tail's place, and writes a `lagging` message or a bookmark if one is due. */
  #tellOfEnd(nowMs: number): void {
    const { place } = this.#tail;
    if (place.seq > this.#place.seq) this.#place = place;
    this.#tellOfLag(nowMs);
    if (nowMs < this.bookmarkDueMs || place.told > 0 || place.seq < this.seq) return;
    this.#write(this.#tail.bookmark(), nowMs);
    this.#waitIfStuck();
  }

  #tellOfLag(nowMs: number): void {
    if (this.#place.told > 0) return;
    const isLagging = this.#tail.isLagging(this.seq);
    if (isLagging && !this.#isLagging) {
      this.#reader.outlet.write(this.#tail.lagging(this.#place));
      this.#toldMs = nowMs;
    }
    this.#isLagging = isLagging;
  }

  #write(frame: Frame, nowMs: number): void {
    this.#reader.outlet.writeFrame(frame);
    this.#toldMs = nowMs;
  }

  /**
   * If the connection still has bytes to send, lets the seat wait until they have left, and counts them in flight if
   * they are many. Returns whether the seat waits or its reader is gone.
   */
  #waitIfStuck(): boolean {
    const { outlet, load } = this.#reader;
    if (this.#isStuck || outlet.isFree || outlet.isGone) return this.#isStuck || outlet.isGone;
    this.#isStuck = true;
    const bytes = outlet.waitingBytes > SMALL_BYTES ? outlet.waitingBytes : 0;
    load.hold(bytes);
    outlet.whenFree(() => {
      load.give(bytes);
      this.#isStuck = false;
      this.#tail.freed(this);
    });
    return true;
  }
}
