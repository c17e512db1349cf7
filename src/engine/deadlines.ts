/**
 * Ids by their deadlines, so that a look for those that are over costs nothing while none is, however many there are.
 * An id stands in a bucket of BUCKET_MS. If its deadline becomes later, it stays there until that bucket's time has
 * come, so that a deadline that moves with every command costs nothing either.
 */

const BUCKET_MS = 128;

export class Deadlines {
  /** The deadline of an id that is watched, in the clock's milliseconds; Infinity: it has none at present. */
  readonly #deadlineOf: (id: number) => number;
  readonly #buckets = new Map<number, Set<number>>();
  readonly #bucketOf = new Map<number, number>();
  /** No id is in an earlier bucket. */
  #first = Number.POSITIVE_INFINITY;

  constructor(deadlineOf: (id: number) => number) {
    this.#deadlineOf = deadlineOf;
  }

  /** Call when an id has its first deadline, and when its deadline may have become earlier. */
  watch(id: number): void {
    const bucket = bucketAt(this.#deadlineOf(id));
    if (bucket >= (this.#bucketOf.get(id) ?? Number.POSITIVE_INFINITY)) return;
    this.forget(id);
    this.#bucketOf.set(id, bucket);
    const ids = this.#buckets.get(bucket);
    if (ids === undefined) this.#buckets.set(bucket, new Set([id]));
    else ids.add(id);
    this.#first = Math.min(this.#first, bucket);
  }

  forget(id: number): void {
    const bucket = this.#bucketOf.get(id);
    if (bucket === undefined) return;
    this.#bucketOf.delete(id);
    const ids = this.#buckets.get(bucket) as Set<number>;
    ids.delete(id);
    if (ids.size === 0) this.#buckets.delete(bucket);
  }

  /**
   * At most `most` ids whose deadline is over, the earliest buckets first. They are answered again until they are
   * forgotten or their deadline is later.
   */
  over(nowMs: number, most: number): number[] {
    const over: number[] = [];
    const current = bucketAt(nowMs);
    if (this.#buckets.size === 0) this.#first = Number.POSITIVE_INFINITY;
    for (let bucket = this.#first; bucket <= current && over.length < most; bucket++) {
      // A Set's iteration goes on behind ids that are deleted meanwhile.
      for (const id of this.#buckets.get(bucket) ?? []) {
        if (this.#deadlineOf(id) <= nowMs) over.push(id);
        else this.#move(id, bucket);
        if (over.length === most) break;
      }
      if (bucket === this.#first && bucket < current && !this.#buckets.has(bucket)) this.#first++;
    }
    return over;
  }

  #move(id: number, from: number): void {
    if (bucketAt(this.#deadlineOf(id)) === from) return;
    this.forget(id);
    this.watch(id);
  }
}

function bucketAt(ms: number): number {
  return Math.floor(ms / BUCKET_MS);
}
