import type { Id } from "./ids.ts";

/** Milliseconds of a clock that does not step. */
interface Lease {
  ttlMs: number;
  usedMs: number;
}

/**
 * Leases of the sessions that a replay has opened. In the recording something kept them, be it a stream, a process, or a
 * client in time; where the replay rests longer than a lease lasts, nothing does, so that they have to be renewed.
 */
export class HeldLeases {
  readonly #leases = new Map<Id, Lease>();
  /** None is due before. */
  #nextMs = Number.POSITIVE_INFINITY;

  opened(session: Id, ttlMs: number, nowMs: number): void {
    const lease = { ttlMs, usedMs: nowMs };
    this.#leases.set(session, lease);
    this.#nextMs = Math.min(this.#nextMs, dueMs(lease));
  }

  /** A command renews its session's lease; a renewal may give it another TTL. */
  used(session: Id, nowMs: number, ttlMs = this.#leases.get(session)?.ttlMs): void {
    if (ttlMs !== undefined && this.#leases.has(session)) this.opened(session, ttlMs, nowMs);
  }

  ended(session: Id): void {
    this.#leases.delete(session);
  }

  /** Sessions that have rested for half their TTL. */
  due(nowMs: number): readonly Id[] {
    if (nowMs < this.#nextMs) return [];
    const due = [...this.#leases].filter(([, lease]) => dueMs(lease) <= nowMs).map(([session]) => session);
    for (const session of due) this.used(session, nowMs);
    this.#nextMs = Math.min(...[...this.#leases.values()].map(dueMs));
    return due;
  }

  /** How long until there may be some. */
  leftMs(nowMs: number): number {
    return Math.max(this.#nextMs - nowMs, 0);
  }
}

function dueMs({ ttlMs, usedMs }: Lease): number {
  return usedMs + ttlMs / 2;
}
