const PIECE_MS = 4;

/** Cuts work into pieces of a few milliseconds, between which the thread does something else. */
export class Pace {
  #sinceMs = performance.now();

  /** To be called between steps: yields once if they have taken long enough. */
  *step(): Generator<void> {
    if (performance.now() - this.#sinceMs < PIECE_MS) return;
    yield;
    this.#sinceMs = performance.now();
  }
}

/** All pieces one after the other. */
export function atOnce<Result>(steps: Generator<void, Result>): Result {
  for (;;) {
    const { value, done } = steps.next();
    if (done === true) return value;
  }
}
