/** Answers that are looked up piece by piece between batches, one after the other. */
export class Listings {
  /** Each answers whoever asked with its last piece. */
  readonly #underWay: Generator<void>[] = [];

  /** Answers what `steps` end with. */
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

  /** Looks up a piece; answers whether there is more. */
  step(): boolean {
    if (this.#underWay[0]?.next().done === true) this.#underWay.shift();
    return this.#underWay.length > 0;
  }
}
