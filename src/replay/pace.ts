/** The clock to wait by; tests replace it. */
export interface Clock {
  nowMs(): number;
  /** Resolves after `ms`, or at once if the signal is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

const US = 1000;

/** Says when recorded moments are due, at a factor of the original speed. The first one is due at once. */
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

  /**
   * Milliseconds until a recorded moment is due; moments must be given in order of their events. If the recorded clock
   * was put back, the step counts as no time.
   */
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

  /** Waits until a recorded moment is due, but at most `atMostMs`. */
  async wait(timeUs: number, atMostMs: number, signal?: AbortSignal): Promise<void> {
    const ms = Math.min(this.leftMs(timeUs), atMostMs);
    if (ms > 0) await this.#clock.sleep(ms, signal);
  }
}
