/** Breaks off requests whose callers lose the right to them, for example when the tokens file is changed. */

/** A request whose answer is not complete. */
export interface Pending {
  /** Whether its caller may still have the answer. */
  isAllowed(): boolean;
  /** Breaks the request off. */
  end(): void;
}

/** The requests under way on all listeners. */
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

  /** Must be called when callers or their scopes have changed. */
  recheck(): void {
    for (const pending of [...this.#pending]) if (!pending.isAllowed()) pending.end();
  }
}
