/**
 * How long sessions live: by a TTL, by a connection, or by a process. A client's process is found by its connection in the service's
 * thread (`mirror/client_processes.ts`); its pid, start time and boot come with the command and stay in the state. The engine opens a pidfd of its own from
 * these (`mirror/watched_processes.ts`) and polls all pidfds every 25 ms and after batches. A replay on another machine uses a TTL instead.
 */

import type { ClientProcess, EndReason } from "../syscall/command.ts";
import type { Clock, Processes } from "./ports.ts";

/** What a session lives by. */
export type LeaseKind = "ttl" | "attached" | "process";

interface Lease {
  /** Once a stream has been attached, a session lives by its streams, not by its TTL; by a process, until that exits. */
  by: LeaseKind;
  ttlMs: number;
  /** When it ends unless it is renewed; Infinity while a stream is attached, and for one that lives by a process. */
  deadlineMs: number;
  /** Streams attached now. */
  streams: number;
}

/** By what each session lives, and until when. */
export class Leases {
  readonly #graceMs: number;
  readonly #processes: Processes;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #leases = new Map<number, Lease>();
  #processCount = 0;

  constructor(graceMs: number, processes: Processes, clock: Pick<Clock, "nowMs">) {
    this.#graceMs = graceMs;
    this.#processes = processes;
    this.#clock = clock;
  }

  get count(): number {
    return this.#leases.size;
  }

  /** Those of them that live by a process. */
  get processCount(): number {
    return this.#processCount;
  }

  /** A full TTL from now: at birth, by request, after a restart. */
  renew(session: number, ttlMs: number): void {
    const lease = this.#leases.get(session);
    if (lease === undefined) {
      this.#leases.set(session, { by: "ttl", ttlMs, deadlineMs: this.#clock.nowMs() + ttlMs, streams: 0 });
      return;
    }
    lease.ttlMs = ttlMs;
    this.used(session);
  }

  /** At birth and after a restart: from now on it lives by this process alone. */
  bind(session: number, process: ClientProcess): void {
    const endless = Number.POSITIVE_INFINITY;
    this.#leases.set(session, { by: "process", ttlMs: endless, deadlineMs: endless, streams: 0 });
    this.#processCount++;
    this.#processes.watch(session, process);
  }

  /** A command of the session renews its TTL; a session that lives by something else does not live by commands. */
  used(session: number): void {
    const lease = this.#leases.get(session);
    if (lease?.by === "ttl") lease.deadlineMs = this.#clock.nowMs() + lease.ttlMs;
  }

  /** Of a session that lives by a process, streams change nothing. */
  attach(session: number): void {
    const lease = this.#leases.get(session);
    if (lease === undefined || lease.by === "process") return;
    lease.by = "attached";
    lease.streams++;
    lease.deadlineMs = Number.POSITIVE_INFINITY;
  }

  /** A stream broke: when it was the last, the grace time begins, in which another may be attached. */
  detach(session: number): void {
    const lease = this.#leases.get(session);
    if (lease?.by !== "attached") return;
    lease.streams--;
    if (lease.streams === 0) lease.deadlineMs = this.#clock.nowMs() + this.#graceMs;
  }

  end(session: number): void {
    if (this.#leases.get(session)?.by === "process") {
      this.#processCount--;
      this.#processes.forget(session);
    }
    this.#leases.delete(session);
  }

  /** Milliseconds that a session has left; Infinity while a stream is attached, or where it lives by a process. */
  leftMs(session: number): number {
    const nowMs = this.#clock.nowMs();
    return Math.max(0, (this.#leases.get(session)?.deadlineMs ?? nowMs) - nowMs);
  }

  by(session: number): LeaseKind {
    return this.#leases.get(session)?.by ?? "ttl";
  }

  expired(): { readonly session: number; readonly reason: EndReason }[] {
    const nowMs = this.#clock.nowMs();
    const over: { session: number; reason: EndReason }[] = this.exited();
    for (const [session, lease] of this.#leases)
      if (lease.deadlineMs <= nowMs)
        over.push({ session, reason: lease.by === "attached" ? "attached stream broke" : "lease expired" });
    return over;
  }

  /** Of `expired` those whose process has exited. */
  exited(): { readonly session: number; readonly reason: EndReason }[] {
    if (this.#processCount === 0) return [];
    return this.#processes.exited().map((session) => ({ session, reason: "client process exited" }));
  }
}
