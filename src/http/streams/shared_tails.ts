/** The shared tails of all subjects: streams that send the same messages share one (`shared_tail.ts`). */

import type { Flight } from "../server/flight.ts";
import { Deliveries } from "./deliveries.ts";
import { SharedTail, type TailFigures } from "./shared_tail.ts";
import type { FollowParts, Place, Reader, Subject } from "./subject.ts";
import type { TailSeat } from "./tail_seat.ts";

/** The most bytes of texts that one tail, and all tails together, keep for slow readers. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;
const KEPT_BYTES_ALL = 64 * 1024 * 1024;

export class SharedTails {
  readonly #tails = new Map<string, SharedTail>();
  readonly #deliveries = new Deliveries();
  readonly #flight: Pick<Flight, "hold" | "give">;
  readonly figures: TailFigures = { reads: 0, messages: 0 };

  constructor(flight: Pick<Flight, "hold" | "give">) {
    this.#flight = flight;
  }

  get count(): number {
    return this.#tails.size;
  }

  /** The number of streams that have a seat. */
  get seats(): number {
    let seats = 0;
    for (const { size } of this.#tails.values()) seats += size;
    return seats;
  }

  /** Whether a subject has a tail that is not beyond the event `seq`, so that a stream can take a seat there. */
  isBehind(subject: Subject, seq: number): boolean {
    const tail = this.#tails.get(subject.key);
    return tail !== undefined && tail.place.seq <= seq;
  }

  /** Makes a seat at a place. Its stream takes it after sending everything up to there. null: the tail is beyond it. */
  seat(parts: FollowParts, subject: Subject, place: Omit<Place, "told">, reader: Reader): TailSeat | null {
    const tail = this.#tails.get(subject.key) ?? this.#open(parts, subject, place);
    return tail.seat(place, reader);
  }

  #open(parts: FollowParts, subject: Subject, place: Omit<Place, "told">): SharedTail {
    const { key } = subject;
    const tail = new SharedTail(parts, subject, place, {
      deliveries: this.#deliveries,
      figures: this.figures,
      keptMax: () => Math.min(KEPT_BYTES_MAX, KEPT_BYTES_ALL / this.#tails.size),
      hold: (bytes) => this.#flight.hold(bytes),
      ended: () => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
      },
    });
    this.#tails.set(key, tail);
    return tail;
  }
}
