/** Answers that are computed in pieces between batches, one answer after the other. */
export class Listings {
  /** Each resolves its promise when it ends. */
  readonly #underWay: Generator<void>[] = [];

  /** Resolves to the result of `steps`. */
  add<Found>(steps: Generator<void, Found>): Promise<Found> {
    return new Promise((resolve, reject) => {
      this.#underWay.push(
        (function* () {
          try {
            resolve(yield* steps);
          } catch (error) {
            reject(error as Error);
          }
        })(),
      );
    });
  }

  /** Runs a piece. Returns whether there are more. */
  step(): boolean {
    if (this.#underWay[0]?.next().done === true) this.#underWay.shift();
    return this.#underWay.length > 0;
  }
}
