/**
 * Deadlines of slots (`slots.ts`), so that a look for those that are over costs nothing while none is, however many
 * there are. A slot stands in a bucket of BUCKET_MS, which is a list through its members. If its deadline becomes later,
 * it stays there until that bucket's time has come, so that a deadline that moves with every command costs nothing
 * either.
 */

import { grown } from "./slots.ts";

const BUCKET_MS = 128;
/** In place of a slot or a bucket. */
const NONE = -1;

export class Deadlines {
  /** The first slot of each bucket. */
  readonly #buckets = new Map<number, number>();
  /** By slot. */
  #deadlinesMs = new Float64Array(0);
  #bucketOf = new Float64Array(0);
  #next = new Int32Array(0);
  #before = new Int32Array(0);
  /** No slot is in an earlier bucket. */
  #first = Number.POSITIVE_INFINITY;

  /** In the clock's milliseconds. Infinity: the slot has no deadline. */
  get(slot: number): number {
    return this.#deadlinesMs[slot] ?? Number.POSITIVE_INFINITY;
  }

  set(slot: number, deadlineMs: number): void {
    this.#makeRoom(slot);
    this.#deadlinesMs[slot] = deadlineMs;
    const present = this.#bucketOf[slot] as number;
    if (present !== NONE && deadlineMs >= present * BUCKET_MS) return;
    this.#leave(slot);
    this.#enter(slot);
  }

  clear(slot: number): void {
    this.set(slot, Number.POSITIVE_INFINITY);
    this.#leave(slot);
  }

  /**
   * At most `most` slots whose deadline is over, the earliest buckets first. They are answered again until their
   * deadline is later.
   */
  over(nowMs: number, most: number): number[] {
    const over: number[] = [];
    const current = bucketAt(nowMs);
    if (this.#buckets.size === 0) this.#first = Number.POSITIVE_INFINITY;
    for (let bucket = this.#first; bucket <= current && over.length < most; bucket++) {
      let slot = this.#buckets.get(bucket) ?? NONE;
      while (slot !== NONE && over.length < most) {
        const next = this.#next[slot] as number;
        if (this.get(slot) <= nowMs) over.push(slot);
        else if (bucketAt(this.get(slot)) !== bucket) {
          this.#leave(slot);
          this.#enter(slot);
        }
        slot = next;
      }
      if (bucket === this.#first && bucket < current && !this.#buckets.has(bucket)) this.#first++;
    }
    return over;
  }

  #enter(slot: number): void {
    const bucket = bucketAt(this.get(slot));
    if (bucket === Number.POSITIVE_INFINITY) return;
    const next = this.#buckets.get(bucket) ?? NONE;
    this.#bucketOf[slot] = bucket;
    this.#next[slot] = next;
    this.#before[slot] = NONE;
    if (next !== NONE) this.#before[next] = slot;
    this.#buckets.set(bucket, slot);
    this.#first = Math.min(this.#first, bucket);
  }

  #leave(slot: number): void {
    const bucket = this.#bucketOf[slot] as number;
    if (bucket === NONE) return;
    const [before, next] = [this.#before[slot] as number, this.#next[slot] as number];
    if (next !== NONE) this.#before[next] = before;
    if (before !== NONE) this.#next[before] = next;
    else if (next !== NONE) this.#buckets.set(bucket, next);
    else this.#buckets.delete(bucket);
    this.#bucketOf[slot] = NONE;
  }

  #makeRoom(slot: number): void {
    const before = this.#bucketOf.length;
    if (slot < before) return;
    this.#deadlinesMs = grown(this.#deadlinesMs, slot + 1).fill(Number.POSITIVE_INFINITY, before);
    this.#bucketOf = grown(this.#bucketOf, slot + 1).fill(NONE, before);
    this.#next = grown(this.#next, slot + 1);
    this.#before = grown(this.#before, slot + 1);
  }
}

function bucketAt(ms: number): number {
  return Math.floor(ms / BUCKET_MS);
}
