/**
 * Commands that the engine runs by itself between batches: sessions that are over end, elements that were put off are
 * freed (FREE_DEFERRED, 2,048 a command), and notes of the mirror and of the machine become events.
 */

import type { State } from "../syscall/state.ts";
import type { Leases } from "./leases.ts";
import type { LogWrites } from "./log_writes.ts";
import type { MachineWatch } from "./machine_watch.ts";
import { freeDeferred, sessionEnd } from "./own_commands.ts";
import type { Request } from "./request.ts";

export interface UpkeepParts {
  readonly state: Pick<State, "session" | "fds" | "deferred">;
  readonly leases: Pick<Leases, "expired" | "exited">;
  readonly machine: Pick<MachineWatch, "look">;
  readonly log: Pick<LogWrites, "rests" | "rest">;
  /** Runs commands of the service's own; answers whether the log has anything new. */
  readonly run: (requests: readonly Request[]) => boolean;
}

/** Elements that go with maps and objects in one event of those that were put off. */
export const FREE_ELEMENTS = 2048;
/** Descriptors of sessions that end by themselves in one turn, unless one alone has more. */
const END_FDS = 4096;

export class Upkeep {
  readonly #parts: UpkeepParts;
  /** Of the next batch. */
  #notes: Request[] = [];

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
  }

  /** Becomes an event of the next batch. */
  note(request: Request): void {
    this.#notes.push(request);
  }

  /** The notes: events of the batch under way. */
  take(): readonly Request[] {
    const notes = this.#notes;
    if (notes.length > 0) this.#notes = [];
    return notes;
  }

  /** That batch has not happened. */
  giveBack(notes: readonly Request[]): void {
    if (notes.length > 0) this.#notes = [...notes, ...this.#notes];
  }

  /** Runs the commands that are due; if the log fails them, it waits before it tries again. Answers whether there are more. */
  run(): boolean {
    const { state, leases, machine, log, run } = this.#parts;
    machine.look();
    if (log.rests) return false;
    const over = leases.expired();
    const ended = this.#inOneTurn(over);
    const deferred = state.deferred();
    if (ended.length === 0 && this.#notes.length === 0 && deferred === null) return false;
    const requests = ended.map(({ session, reason }) =>
      sessionEnd(session, state.session(session)?.caller ?? "", reason),
    );
    if (deferred !== null) requests.push(freeDeferred(deferred, FREE_ELEMENTS));
    if (!run(requests)) log.rest();
    return ended.length < over.length || deferred !== null;
  }

  /** Ends the sessions whose process has exited. */
  endExited(): void {
    if (this.#parts.leases.exited().length > 0) this.run();
  }

  /** The first of the sessions that are over, as many as have few descriptors; at least one. */
  #inOneTurn<Ended extends { readonly session: number }>(over: readonly Ended[]): readonly Ended[] {
    let fds = 0;
    const end = over.findIndex(({ session }, at) => {
      fds += 1 + this.#parts.state.fds.count(session);
      return at > 0 && fds > END_FDS;
    });
    return end < 0 ? over : over.slice(0, end);
  }
}
