/** A clock to wait by; tests have one of their own. */
export interface Clock {
  nowMs(): number;
  /** Resolves when the time has passed, or at once where the signal says that nobody waits any more. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

const US = 1000;

/** When recorded moments are due, at a factor of the original speed: the first one is now. */
export class Pace {
  readonly #speed: number;
  readonly #clock: Clock;
  #startMs: number | null = null;
  #startUs = 0;
  #lastUs = 0;

  constructor(speed: number, clock: Clock) {
    this.#speed = speed;
    this.#clock = clock;
  }

  /** Milliseconds until a recorded moment is due; they come in their order. Where the clock was put back, no time has passed. */
  leftMs(timeUs: number): number {
    if (this.#startMs === null) {
      this.#startMs = this.#clock.nowMs();
      this.#startUs = timeUs;
      this.#lastUs = timeUs;
    }
    if (timeUs < this.#lastUs) this.#startUs -= this.#lastUs - timeUs;
    this.#lastUs = timeUs;
    return this.#startMs + (timeUs - this.#startUs) / US / this.#speed - this.#clock.nowMs();
  }

  /** Until a recorded moment is due, but no longer than `atMostMs`. */
  async wait(timeUs: number, atMostMs: number, signal?: AbortSignal): Promise<void> {
    const ms = Math.min(this.leftMs(timeUs), atMostMs);
    if (ms > 0) await this.#clock.sleep(ms, signal);
  }
}
