/** The forms of commands that reach the engine, and of its replies. */

import type { Scope } from "../access/scopes.ts";
import type { Action, Origin } from "../syscall/command.ts";
import type { Outcome } from "../syscall/outcome.ts";

/**
 * A command without its time, which the engine stamps. `limits`: the id of its caller's limits (`caller_limits.ts`);
 * absent: the caller's scopes have no globs. `octets`: only of an update or delete batch, whose `value` is the body of a
 * request, which the engine divides into keys and values (`octets.ts`). The body's memory is transferred to the engine's
 * thread, so the sender must not use it any more.
 */
export type Request = Action & Omit<Origin, "timeUs"> & { readonly limits?: number; readonly octets?: true };

/** The reply to a request: its outcome and its event, or the reason why it has no event. */
export type Reply = Ran | NotDone;

/** The command was decided, and the event `seq` records its outcome, which may be an errno. */
export interface Ran {
  readonly seq: number;
  readonly outcome: Outcome;
  /** Only of a batch that came as octets: the number of elements that it had. */
  readonly given?: number;
}

/**
 * The command did not happen and has no event; or, if `done` is absent, nobody knows whether it has: the log could not
 * be synced, or the engine failed on the way.
 */
export interface NotDone {
  readonly failure:
    | "disk full"
    | "log failed"
    | "state failed"
    | "outcome unknown"
    | "bug"
    | "scope missing"
    | "invalid body";
  readonly detail: string;
  /** Only with "scope missing": the scope that the caller lacks, or that does not cover the command's map. */
  readonly scope?: Scope;
  /** The part of a large command that was done before the failure, or "nothing". Absent: unknown. */
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
  /** The command `cmd` was refused with this outcome, so none of them has happened. */
  | { readonly refused: Outcome; readonly cmd: number }
  /** An event may have changed the map since the commands were made, so none of them has happened. */
  | { readonly changed: true }
  | NotDone;
