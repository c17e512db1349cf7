/** The ends of the log that streams have come to, each shared by all that are told the same (`shared_tail.ts`). */

import type { Flight } from "../server/flight.ts";
import { Deliveries } from "./deliveries.ts";
import { SharedTail, type TailFigures } from "./shared_tail.ts";
import type { FollowParts, Place, Reader, Subject } from "./subject.ts";
import type { TailSeat } from "./tail_seat.ts";

/** Texts that are kept for slow readers, at most: of one tail, and of all. */
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

  /** Streams that have a seat. */
  get seats(): number {
    let seats = 0;
    for (const { size } of this.#tails.values()) seats += size;
    return seats;
  }

  /** Whether the tail of a subject has come to a place, or not even there: who is told up to there can join it. */
  isBehind(subject: Subject, seq: number): boolean {
    const tail = this.#tails.get(subject.key);
    return tail !== undefined && tail.place.seq <= seq;
  }

  /** A seat behind a place, to be taken when all up to there has been told. null: the tail is beyond the place. */
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
