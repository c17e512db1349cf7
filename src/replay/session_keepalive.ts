import type { Id } from "./ids.ts";

/** Times are in milliseconds of a monotonic clock. */
interface Lease {
  ttlMs: number;
  usedMs: number;
}

/**
 * The leases of sessions that a replay has opened. In the recording, streams, processes or renewals kept them alive; if
 * the replay pauses for longer than a lease lasts, it must renew them itself.
 */
export class HeldLeases {
  readonly #leases = new Map<Id, Lease>();
  /** No renewal is due before this time. */
  #nextMs = Number.POSITIVE_INFINITY;

  opened(session: Id, ttlMs: number, nowMs: number): void {
    const lease = { ttlMs, usedMs: nowMs };
    this.#leases.set(session, lease);
    this.#nextMs = Math.min(this.#nextMs, dueMs(lease));
  }

  /** A command renews its session's lease; a SESSION_RENEW may change its TTL. */
  used(session: Id, nowMs: number, ttlMs = this.#leases.get(session)?.ttlMs): void {
    if (ttlMs !== undefined && this.#leases.has(session)) this.opened(session, ttlMs, nowMs);
  }

  ended(session: Id): void {
    this.#leases.delete(session);
  }

  /** Sessions that have not been used for half their TTL. */
  due(nowMs: number): readonly Id[] {
    if (nowMs < this.#nextMs) return [];
    const due = [...this.#leases].filter(([, lease]) => dueMs(lease) <= nowMs).map(([session]) => session);
    for (const session of due) this.used(session, nowMs);
    this.#nextMs = Math.min(...[...this.#leases.values()].map(dueMs));
    return due;
  }

  /** Milliseconds until a renewal may be due. */
  leftMs(nowMs: number): number {
    return Math.max(this.#nextMs - nowMs, 0);
  }
}

function dueMs({ ttlMs, usedMs }: Lease): number {
  return usedMs + ttlMs / 2;
}
