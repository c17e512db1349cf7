/**
 * How long sessions live: by a TTL, by a connection, or by a process. A client's process is found by its connection in
 * the service's thread (`mirror/client_processes.ts`); its pid, start time and boot come with the command and stay in
 * the state. The engine opens a pidfd of its own from these (`mirror/watched_processes.ts`) and polls all pidfds every
 * 25 ms and after batches. A replay on another machine uses a TTL instead.
 */

import { CMD } from "../abi/service.ts";
import type { ClientProcess, Command, EndReason } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { SessionRecord } from "../syscall/state.ts";
import type { Clock, Processes } from "./ports.ts";

/** What a session lives by. */
type LeaseKind = "ttl" | "attached" | "process";

interface Lease {
  /** Once a stream has been attached, a session lives by its streams, not by its TTL; by a process, until that exits. */
  by: LeaseKind;
  ttlMs: number;
  /** When it ends unless it is renewed; Infinity while a stream is attached, and for one that lives by a process. */
  deadlineMs: number;
  /** Streams attached now. */
  streams: number;
}

/** How a session's lease is shown; null: of no session that lives now. */
export interface LeaseView {
  readonly lease: LeaseKind | null;
  /** Milliseconds until it ends unless it is renewed; null while a stream is attached, and by a process. */
  readonly leftMs: number | null;
}

export interface LeasesParts {
  /** How long a session lives on when its last stream has broken. */
  readonly graceMs: number;
  readonly processes: Processes;
  readonly clock: Pick<Clock, "nowMs">;
  /** The session as it is; undefined: it has ended. */
  readonly session: (id: number) => SessionRecord | undefined;
}

/** By what each session lives, and until when. */
export class Leases {
  readonly #graceMs: number;
  readonly #processes: Processes;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #session: LeasesParts["session"];
  readonly #leases = new Map<number, Lease>();
  #processCount = 0;

  constructor({ graceMs, processes, clock, session }: LeasesParts) {
    this.#graceMs = graceMs;
    this.#processes = processes;
    this.#clock = clock;
    this.#session = session;
  }

  get count(): number {
    return this.#leases.size;
  }

  /** Those of them that live by a process. */
  get processCount(): number {
    return this.#processCount;
  }

  /** A command is in the log: births, renewals, uses and ends of sessions. */
  follow({ cmd, session: caller }: Command, { out }: Outcome): void {
    const session = cmd === CMD.SESSION_OPEN ? (out?.session_id ?? 0) : caller;
    if (session === 0 || out?.session !== undefined) return;
    const record = this.#session(session);
    if (record === undefined) this.end(session);
    else if (cmd === CMD.SESSION_OPEN) this.lend(record);
    else if (cmd === CMD.SESSION_RENEW) this.#renew(session, record.ttlMs);
    else this.#used(session);
  }

  /** At birth and after a restart: a full TTL, or as long as its process lives. */
  lend({ id, ttlMs, process }: SessionRecord): void {
    if (process === undefined) this.#renew(id, ttlMs);
    else this.#bind(id, process);
  }

  /** A full TTL from now. */
  #renew(session: number, ttlMs: number): void {
    const lease = this.#leases.get(session);
    if (lease === undefined) {
      this.#leases.set(session, { by: "ttl", ttlMs, deadlineMs: this.#clock.nowMs() + ttlMs, streams: 0 });
      return;
    }
    lease.ttlMs = ttlMs;
    this.#used(session);
  }

  /** From now on it lives by this process alone. */
  #bind(session: number, process: ClientProcess): void {
    const endless = Number.POSITIVE_INFINITY;
    this.#leases.set(session, { by: "process", ttlMs: endless, deadlineMs: endless, streams: 0 });
    this.#processCount++;
    this.#processes.watch(session, process);
  }

  /** A command of the session renews its TTL; a session that lives by something else does not live by commands. */
  #used(session: number): void {
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

  view(session: number): LeaseView {
    const nowMs = this.#clock.nowMs();
    const { by, deadlineMs } = this.#leases.get(session) ?? { by: "ttl", deadlineMs: nowMs };
    const leftMs = Math.max(0, deadlineMs - nowMs);
    return { lease: by, leftMs: leftMs === Number.POSITIVE_INFINITY ? null : Math.round(leftMs) };
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
