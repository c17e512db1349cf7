const PIECE_MS = 4;

/** Divides work into pieces of a few milliseconds; other work of the thread runs between them. */
export class Pace {
  #sinceMs = performance.now();

  /** Call between steps; yields if the present piece has lasted long enough. */
  *step(): Generator<void> {
    if (performance.now() - this.#sinceMs < PIECE_MS) return;
    yield;
    this.#sinceMs = performance.now();
  }
}

/** Runs all pieces without a break. */
export function atOnce<Result>(steps: Generator<void, Result>): Result {
  for (;;) {
    const { value, done } = steps.next();
    if (done === true) return value;
  }
}
