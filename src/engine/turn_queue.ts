/**
 * A queue for long work, which is done in pieces. Each turn of the event loop runs one piece, however many requests
 * wait for theirs, and everything else runs between two turns. Requests with large bodies or answers use one in the
 * service's thread, queries about all maps or pins one in the engine's.
 */

export class Turns {
  readonly #waiting: (() => void)[] = [];
  #scheduled = false;
  #taken = 0;

  /** The number of turns since the start. */
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
