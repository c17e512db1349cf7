/** A request that has not been answered to its end. */
export interface Pending {
  /** Whether its caller may still have it. */
  isAllowed(): boolean;
  /** Breaks it off. */
  end(): void;
}

/** The requests under way, over all listeners: what a caller has begun ends when he may no longer have it. */
export class UnderWay {
  readonly #pending = new Set<Pending>();

  add(pending: Pending): void {
    this.#pending.add(pending);
  }

  delete(pending: Pending): void {
    this.#pending.delete(pending);
  }

  get count(): number {
    return this.#pending.size;
  }

  /** To be called when callers may do something else than before. */
  recheck(): void {
    for (const pending of [...this.#pending]) if (!pending.isAllowed()) pending.end();
  }
}
