/** Commands as they reach the engine, and its answers. */

import type { Scope } from "../access/scopes.ts";
import type { Action, Origin } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";

/** A command as it reaches the engine: everything but the time; and the id of its caller's limits, if he has any. */
export type Request = Action & Omit<Origin, "timeUs"> & { readonly limits?: number };

/** The answer to a request: its outcome and the event that has it, or why there is none. */
export type Reply = Ran | NotDone;

/** The command has run: this event tells of it. */
export interface Ran {
  readonly seq: number;
  readonly outcome: Outcome;
}

/** The command did not happen: no event tells of it; or nobody knows whether it has: "outcome unknown". */
export interface NotDone {
  readonly failure: "disk full" | "log failed" | "state failed" | "outcome unknown" | "bug" | "scope missing";
  readonly detail: string;
  /** Of "scope missing": its caller may not do it, since this one does not cover what it means. */
  readonly scope?: Scope;
  /** What has happened all the same: of a large command what was done before. Left out: nobody can say. */
  readonly done?: "nothing" | DoneInPart;
}

export interface DoneInPart {
  readonly count: number;
  readonly of: number;
  readonly what: "elements" | "bytes";
}

/** The answer to requests that run as one. */
export type WholeReply =
  | { readonly replies: readonly Ran[] }
  /** This one was refused: none has happened. */
  | { readonly refused: Outcome; readonly cmd: number }
  /** The map is not what the commands were made for. */
  | { readonly changed: true }
  | NotDone;
