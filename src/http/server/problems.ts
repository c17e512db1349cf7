/** Problems, the API's errors: made from outcomes, failures of the engine, and failures of parts. */

import { ERRNO, type Errno, errnoName } from "../../abi/errno.ts";
import { cmdName } from "../../abi/service.ts";
import type { NotDone } from "../../engine/request.ts";
import { http } from "../../net/http.ts";
import type { PartFailed } from "../../supervisor/derived_parts.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import {
  ERRNO_PROBLEMS,
  type ProblemExtras,
  type ProblemName,
  problemDocument,
  statusOf,
} from "../schemas/problems.ts";

/** Headers of every answer: browsers must not guess another content type. */
export const SAFETY_HEADERS = { "x-content-type-options": "nosniff" } as const;

const RETRY_SECONDS = "1";

/**
 * A problem document of RFC 9457, to be thrown. It is not an Error, because a stack would cost too much: lookups that
 * find no element are common.
 */
export class Problem {
  readonly name: ProblemName | Errno;
  status: number;
  readonly detail: string;
  readonly extras: ProblemExtras;
  readonly headers: Readonly<Record<string, string>>;
  /** An error for the log only, not for the caller. */
  readonly cause: unknown;

  constructor(
    name: ProblemName | Errno,
    detail: string,
    extras: ProblemExtras = {},
    headers: Record<string, string> = {},
    cause?: unknown,
  ) {
    this.cause = cause;
    this.name = name;
    this.status = statusOf(name);
    this.detail = detail;
    this.extras = extras;
    this.headers = this.status === 503 ? { "retry-after": RETRY_SECONDS, ...headers } : headers;
  }

  text(): string {
    return JSON.stringify(problemDocument(this.name, this.detail, this.extras));
  }
}

/** A refusal by the framework, with the framework's status. */
export class StatusProblem extends Problem {
  constructor(status: number, detail: string) {
    super("invalid-input", detail);
    this.status = status;
  }

  override text(): string {
    const { status, detail } = this;
    return JSON.stringify({ type: "about:blank", title: http.STATUS_CODES[status] ?? "Refused", status, detail });
  }
}

/** The problem of a command that an errno refused. `seq`: of its event; `count`: the batch's elements done before. */
export function refused(
  { cmd }: { readonly cmd: number },
  { errno, detail, out }: Outcome,
  seq?: number,
  count?: number,
): Problem {
  const name = errnoName(errno);
  const extras = {
    errno: name,
    cmd: cmdName(cmd) ?? String(cmd),
    ...(seq === undefined ? {} : { seq }),
    ...(out?.quota === undefined ? {} : { quota: out.quota }),
  };
  const text = detail ?? ERRNO_PROBLEMS[name].title;
  switch (out?.session) {
    case "unknown":
      return new Problem("no-such-session", text, extras);
    case "ended":
      return new Problem("session-ended", text, extras);
    case "foreign":
      return new Problem("session-foreign", text, extras);
    case undefined:
      return new Problem(name, text, count === undefined ? extras : { ...extras, count });
  }
}

const FAILURES = {
  "disk full": "disk-full",
  "log failed": "log-failed",
  "state failed": "part-failed",
  "outcome unknown": "outcome-unknown",
  bug: "bug",
  "scope missing": "scope-missing",
  "invalid body": "invalid-input",
} as const;

/** The problem of a command that did not happen, or of which nobody knows whether it did. */
export function failure({ failure, detail, done }: NotDone): Problem {
  if (failure === "invalid body") return new Problem("invalid-input", `body: ${detail}`, { where: "body" });
  return new Problem(FAILURES[failure], `${detail}${done === "nothing" ? "; nothing was changed" : doneText(done)}`);
}

/** A text for the end of the detail: the part of a large command that was done before it was refused. */
export function doneText(done: NotDone["done"]): string {
  if (done === undefined || done === "nothing") return "";
  return `; ${done.count} of ${done.of} ${done.what} were done before`;
}

/** The problem of a request that needs a part that has failed. */
export function partProblem({ message, fault: { state, full, detail } }: PartFailed): Problem {
  if (state === "refused") return new Problem("log-contradicted", detail);
  return new Problem(full ? "disk-full" : "part-failed", message);
}

/**
 * The problem of an operator's order that was refused. An errno of the live kernel that has no row counts as EINVAL.
 */
export function refusedOrder({ errno, detail }: { readonly errno: string; readonly detail: string }): Problem {
  return new Problem(Object.hasOwn(ERRNO, errno) ? (errno as Errno) : "EINVAL", detail, { errno });
}

/** The problem of a request that needs archived events, or the state before the last of them. */
export function archivedProblem(oldestSeq: number): Problem {
  return new Problem("archived", `events up to ${oldestSeq - 1} are archived`, { oldest_seq: oldestSeq });
}
