import type { EndReason } from "../syscall/command.ts";

interface Lease {
  ttlMs: number;
  /** When it ends unless it is renewed; Infinity while a stream is attached. */
  deadlineMs: number;
  /** Streams attached now. */
  streams: number;
  /** It has been attached: since then it lives by its streams, not by its TTL. */
  attached: boolean;
}

/** The clock of sessions: by whom each lives, and until when. Milliseconds of a clock that does not step. */
export class Leases {
  readonly #graceMs: number;
  readonly #leases = new Map<number, Lease>();

  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  get count(): number {
    return this.#leases.size;
  }

  /** A full TTL from now: at birth, by request, after a restart. */
  renew(session: number, ttlMs: number, nowMs: number): void {
    const lease = this.#leases.get(session);
    if (lease === undefined) {
      this.#leases.set(session, { ttlMs, deadlineMs: nowMs + ttlMs, streams: 0, attached: false });
      return;
    }
    lease.ttlMs = ttlMs;
    this.used(session, nowMs);
  }

  /** A command of the session renews its TTL; a session that lives by a stream does not live by commands. */
  used(session: number, nowMs: number): void {
    const lease = this.#leases.get(session);
    if (lease !== undefined && !lease.attached) lease.deadlineMs = nowMs + lease.ttlMs;
  }

  attach(session: number): void {
    const lease = this.#leases.get(session);
    if (lease === undefined) return;
    lease.attached = true;
    lease.streams++;
    lease.deadlineMs = Number.POSITIVE_INFINITY;
  }

  /** A stream broke: when it was the last, the grace time begins, in which another may be attached. */
  detach(session: number, nowMs: number): void {
    const lease = this.#leases.get(session);
    if (lease === undefined) return;
    lease.streams--;
    if (lease.streams === 0) lease.deadlineMs = nowMs + this.#graceMs;
  }

  end(session: number): void {
    this.#leases.delete(session);
  }

  /** Milliseconds that a session has left; Infinity while a stream is attached. */
  leftMs(session: number, nowMs: number): number {
    return Math.max(0, (this.#leases.get(session)?.deadlineMs ?? nowMs) - nowMs);
  }

  isAttached(session: number): boolean {
    return this.#leases.get(session)?.attached ?? false;
  }

  expired(nowMs: number): { readonly session: number; readonly reason: EndReason }[] {
    const over: { session: number; reason: EndReason }[] = [];
    for (const [session, lease] of this.#leases)
      if (lease.deadlineMs <= nowMs)
        over.push({ session, reason: lease.attached ? "attached stream broke" : "lease expired" });
    return over;
  }
}
