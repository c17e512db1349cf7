/**
 * Turns of the event loop. Long work is done in pieces, and takes a turn for each. Each turn of the event loop gives
 * one piece its turn, however many requests have some, and everything else runs between two turns. Requests with large
 * bodies or answers take turns in the service's thread, questions about all maps or pins in the engine's.
 */

export class Turns {
  readonly #waiting: (() => void)[] = [];
  #scheduled = false;
  #taken = 0;

  /** Turns that have been taken since the start. */
  get taken(): number {
    return this.#taken;
  }

  /** Resolves when it is the caller's turn to do a piece. */
  take(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#scheduled || this.#waiting.length === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#taken++;
      this.#waiting.shift()?.();
      this.#schedule();
    });
  }
}
