/**
 * The leases of sessions. A session lives by one of three:
 *
 *     ttl         for its TTL after its last command; SESSION_RENEW sets a new TTL
 *     attached    while a stream is attached, and for the grace time after the last one broke
 *     process     until its client's process exits; commands and streams change nothing
 *
 * A session begins with `ttl` or `process`, and goes from `ttl` to `attached` with its first stream. For example, with
 * a TTL of 60 s and a grace time of 5 s:
 *
 *      0 s  SESSION_OPEN           ends at 60 s
 *     50 s  a command              ends at 110 s
 *     70 s  a stream is attached   does not end
 *     80 s  the stream breaks      ends at 85 s, commands do not renew it
 *     82 s  another is attached    does not end
 *
 * Leases are not in the log. After a restart each session gets a full TTL, or lives by its process. A client's process
 * is found by its connection in the service's thread (`mirror/client_processes.ts`); its pid, start time and boot come
 * with the command and stay in the state. From these the engine opens a pidfd of its own
 * (`mirror/watched_processes.ts`), and polls all pidfds every 25 ms (`worker.ts`).
 */

import { CMD } from "../abi/service.ts";
import type { ClientProcess, Command, EndReason } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { Outcome } from "../syscall/outcome.ts";
import type { SessionRecord } from "../syscall/sessions.ts";
import { Deadlines } from "./deadlines.ts";
import type { Clock, Processes } from "./ports.ts";
import { grown, Slots } from "./slots.ts";

/** A session that had a stream attached is `attached` from then on. */
const KINDS = ["ttl", "attached", "process"] as const;
type LeaseKind = (typeof KINDS)[number];

/** A session's lease as the API shows it. `lease` null: as of an earlier moment it is unknown. */
export interface LeaseView {
  readonly lease: LeaseKind | null;
  /** Milliseconds until the session ends unless its lease is renewed; null: it has no deadline. */
  readonly leftMs: number | null;
}

export interface LeasesParts {
  /** The grace time: how long a session lives after its last stream broke. */
  readonly graceMs: number;
  readonly processes: Processes;
  readonly clock: Pick<Clock, "nowMs">;
  /** The present record of a session; undefined: it has ended. */
  readonly session: (id: number) => SessionRecord | undefined;
}

/** The leases of all sessions. */
export class Leases {
  readonly #graceMs: number;
  readonly #processes: Processes;
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #session: LeasesParts["session"];
  readonly #slots = new Slots();
  /** By slot: the kind of lease, as an index of KINDS, and the TTL. */
  #kinds = new Uint8Array(0);
  #ttlsMs = new Float64Array(0);
  /** When sessions end unless their leases are renewed; those with an attached stream, or a process, have no deadline. */
  readonly #deadlines = new Deadlines();
  /** The number of streams that are attached, of sessions that have any. */
  readonly #streams = new Map<number, number>();
  #processCount = 0;

  constructor({ graceMs, processes, clock, session }: LeasesParts) {
    this.#graceMs = graceMs;
    this.#processes = processes;
    this.#clock = clock;
    this.#session = session;
  }

  get count(): number {
    return this.#slots.size;
  }

  /** The number of sessions that live by a process. */
  get processCount(): number {
    return this.#processCount;
  }

  /** Updates the leases with a command that is in the log: it opens, renews, uses or ends a session. */
  follow({ cmd, session: caller }: Command, { out }: Outcome): void {
    const session = cmd === CMD.SESSION_OPEN ? (out?.session_id ?? 0) : caller;
    if (session === 0 || out?.session !== undefined) return;
    if (commandFacts(cmd)?.lease !== true) {
      this.#used(session);
      return;
    }
    const record = this.#session(session);
    if (record === undefined) this.end(session);
    else if (cmd === CMD.SESSION_OPEN) this.lend(record);
    else if (cmd === CMD.SESSION_RENEW) this.#renew(session, record.ttlMs);
  }

  /** Gives a session its first lease, when it was opened or after a restart: its full TTL, or its process. */
  lend({ id, ttlMs, process }: SessionRecord): void {
    if (process === undefined) this.#renew(id, ttlMs);
    else this.#bind(id, process);
  }

  /** Gives a session a full TTL from now on, unless it lives by something else. */
  #renew(session: number, ttlMs: number): void {
    const slot = this.#slots.of(session) ?? this.#begin(session, "ttl");
    this.#ttlsMs[slot] = ttlMs;
    this.#used(session);
  }

  /** Makes a session live by a process alone. */
  #bind(session: number, process: ClientProcess): void {
    this.#begin(session, "process");
    this.#processCount++;
    this.#processes.watch(session, process);
  }

  #begin(session: number, kind: LeaseKind): number {
    const slot = this.#slots.take(session);
    this.#kinds = grown(this.#kinds, slot + 1);
    this.#ttlsMs = grown(this.#ttlsMs, slot + 1);
    this.#kinds[slot] = KINDS.indexOf(kind);
    return slot;
  }

  #kindOf(slot: number): LeaseKind {
    return KINDS[this.#kinds[slot] as number] as LeaseKind;
  }

  /**
   * Renews a session's TTL, because a command used the session. A session that lives by something else does not live by
   * commands.
   */
  #used(session: number): void {
    const slot = this.#slots.of(session);
    if (slot !== undefined && this.#kindOf(slot) === "ttl")
      this.#deadlines.set(slot, this.#clock.nowMs() + (this.#ttlsMs[slot] as number));
  }

  /** Attaches a stream. A session that lives by a process does not change. */
  attach(session: number): void {
    const slot = this.#slots.of(session);
    if (slot === undefined || this.#kindOf(slot) === "process") return;
    this.#kinds[slot] = KINDS.indexOf("attached");
    this.#streams.set(session, (this.#streams.get(session) ?? 0) + 1);
    this.#deadlines.clear(slot);
  }

  /** Call when a stream broke. After the last one the grace time begins, in which another can be attached. */
  detach(session: number): void {
    const slot = this.#slots.of(session);
    if (slot === undefined || this.#kindOf(slot) !== "attached") return;
    const streams = (this.#streams.get(session) ?? 0) - 1;
    if (streams > 0) {
      this.#streams.set(session, streams);
      return;
    }
    this.#streams.delete(session);
    this.#deadlines.set(slot, this.#clock.nowMs() + this.#graceMs);
  }

  end(session: number): void {
    const slot = this.#slots.of(session);
    if (slot === undefined) return;
    if (this.#kindOf(slot) === "process") {
      this.#processCount--;
      this.#processes.forget(session);
    }
    this.#deadlines.clear(slot);
    this.#streams.delete(session);
    this.#slots.give(session);
  }

  view(session: number): LeaseView {
    const slot = this.#slots.of(session);
    if (slot === undefined) return { lease: "ttl", leftMs: 0 };
    const leftMs = Math.max(0, this.#deadlines.get(slot) - this.#clock.nowMs());
    return { lease: this.#kindOf(slot), leftMs: leftMs === Number.POSITIVE_INFINITY ? null : Math.round(leftMs) };
  }

  /** The sessions whose lease is over, with the reason: at most `most` of them, unless more processes have exited. */
  expired(most: number): { readonly session: number; readonly reason: EndReason }[] {
    const over: { session: number; reason: EndReason }[] = this.exited();
    for (const slot of this.#deadlines.over(this.#clock.nowMs(), most - over.length)) {
      const reason = this.#kindOf(slot) === "attached" ? "attached stream broke" : "lease expired";
      over.push({ session: this.#slots.idOf(slot), reason });
    }
    return over;
  }

  /** The sessions whose process has exited, which are a part of expired(), too. */
  exited(): { readonly session: number; readonly reason: EndReason }[] {
    if (this.#processCount === 0) return [];
    return this.#processes.exited().map((session) => ({ session, reason: "client process exited" }));
  }
}
