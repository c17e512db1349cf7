/**
 * The commands that the engine runs by itself between batches: sessions whose lease is over end, deferred elements are
 * freed (FREE_DEFERRED, 2,048 a command), and notes of the mirror and of the machine become events. Upkeep also removes
 * archived events, and the cells of freed maps.
 */

import type { State } from "../syscall/state.ts";
import type { Leases } from "./leases.ts";
import type { LogWrites } from "./log_writes.ts";
import type { MachineWatch } from "./machine_watch.ts";
import { freeDeferred, sessionEnd } from "./own_commands.ts";
import type { Request } from "./request.ts";

export interface UpkeepParts {
  readonly state: Pick<State, "session" | "fds" | "deferred" | "garbage">;
  readonly leases: Pick<Leases, "expired" | "exited">;
  readonly machine: Pick<MachineWatch, "look">;
  readonly log: Pick<LogWrites, "rests" | "rest" | "seek" | "deleteArchived">;
  /** Runs the engine's own commands. Returns whether the log has grown. */
  readonly run: (requests: readonly Request[]) => boolean;
}

/** The most elements that one batch, or one FREE_DEFERRED command, frees with their maps and objects. */
export const FREE_ELEMENTS = 2048;
/** The most descriptors of sessions that end in one turn, unless one session alone has more. */
const END_FDS = 4096;
/** The most cells of freed maps that are deleted between two batches. */
const RECLAIM_CELLS = 2048;

export class Upkeep {
  readonly #parts: UpkeepParts;
  /** The requests that become events of the next batch. */
  #notes: Request[] = [];

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
  }

  /** Adds an event to the next batch. */
  note(request: Request): void {
    this.#notes.push(request);
  }

  /** Takes the notes, for the batch that begins. */
  take(): readonly Request[] {
    const notes = this.#notes;
    if (notes.length > 0) this.#notes = [];
    return notes;
  }

  /** Puts notes back, because their batch has not happened. */
  giveBack(notes: readonly Request[]): void {
    if (notes.length > 0) this.#notes = [...notes, ...this.#notes];
  }

  /**
   * Does everything that is due between two batches. If `leasesOnly`, no cells of freed maps are deleted, and archived
   * events that are left do not count as more to do. Returns whether there is more to do.
   */
  step(leasesOnly: boolean): boolean {
    const { state, log } = this.#parts;
    const owes = this.run();
    log.seek();
    const archived = log.deleteArchived();
    return leasesOnly ? owes : state.garbage.reclaim(RECLAIM_CELLS) || archived || owes;
  }

  /** Runs the commands that are due, but none for a while after the log has failed. Returns whether more are due. */
  run(): boolean {
    const { state, leases, machine, log, run } = this.#parts;
    machine.look();
    if (log.rests) return false;
    // One more than can end in one turn.
    const over = leases.expired(END_FDS + 1);
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

  /** The first of the sessions: as many as have END_FDS descriptors together, and at least one. */
  #inOneTurn<Ended extends { readonly session: number }>(over: readonly Ended[]): readonly Ended[] {
    let fds = 0;
    const end = over.findIndex(({ session }, at) => {
      fds += 1 + this.#parts.state.fds.count(session);
      return at > 0 && fds > END_FDS;
    });
    return end < 0 ? over : over.slice(0, end);
  }
}
