/** Problem documents of RFC 9457: each has a name of mapledger's, or the errno of a refused command. */

import { ERRNO, type Errno } from "../../abi/errno.ts";

/** Problems that no errno names. The list is closed: a test compares it with docs/api.md and the API's document. */
export const PROBLEMS = {
  "invalid-input": { status: 400, title: "The request cannot be read" },
  "no-process": { status: 400, title: "There is no process that the session could live by" },
  unauthorized: { status: 401, title: "A bearer token is needed" },
  "foreign-page": { status: 403, title: "Pages of other origins may not use the service" },
  "scope-missing": { status: 403, title: "The caller may not do that" },
  "read-only": { status: 403, title: "The service is read-only" },
  "session-foreign": { status: 403, title: "The session is another caller's" },
  "process-foreign": { status: 403, title: "The process is another user's" },
  "process-hidden": { status: 403, title: "The service may not look at the process" },
  "target-not-named": { status: 403, title: "Replays may not go to this target" },
  "no-such-route": { status: 404, title: "There is no such route" },
  "no-such-session": { status: 404, title: "There is no such session" },
  "no-such-event": { status: 404, title: "There is no such event" },
  "no-such-tile": { status: 404, title: "There is no such tile" },
  "not-cosigned": { status: 404, title: "There is no checkpoint with as many cosignatures" },
  "no-such-replay": { status: 404, title: "There is no such replay" },
  "method-not-allowed": { status: 405, title: "The route does not take this method" },
  "request-timeout": { status: 408, title: "The request did not arrive in time" },
  "session-ended": { status: 410, title: "The session has ended" },
  "archive-running": { status: 409, title: "Events are being archived" },
  "nothing-to-archive": { status: 409, title: "There is nothing to archive" },
  "cannot-archive": { status: 409, title: "The events cannot be archived" },
  archived: { status: 410, title: "The events are archived" },
  "foreign-position": { status: 410, title: "The position is not one in this log" },
  "body-too-large": { status: 413, title: "The body is larger than the service takes" },
  "range-not-satisfiable": { status: 416, title: "The range is not within the memory" },
  "unsupported-media-type": { status: 415, title: "The route does not take a body of this type" },
  "header-too-large": { status: 431, title: "The request line and headers are larger than the service takes" },
  "log-contradicted": {
    status: 503,
    title: "The log has no tree to sign: the tree is missing, or contradicts the log",
  },
  bug: { status: 500, title: "The service failed" },
  "outcome-unknown": { status: 500, title: "Whether the command is recorded is unknown" },
  busy: { status: 503, title: "The service is busy" },
  "too-many-bytes": { status: 503, title: "The limit of bytes in flight is reached" },
  "too-many-streams": { status: 503, title: "The limit of streams is reached" },
  "too-many-jobs": { status: 503, title: "The caller's limit of jobs is reached" },
  "too-many-replays": { status: 503, title: "The limit of replays is reached" },
  unavailable: { status: 503, title: "The service is not ready" },
  "history-behind": { status: 503, title: "The history is being made from the log" },
  "part-failed": { status: 503, title: "A part that is made from the log has failed, and is tried again" },
  "log-failed": { status: 503, title: "The log could not be written" },
  "disk-full": { status: 507, title: "The disk is full" },
} as const satisfies Record<string, { readonly status: number; readonly title: string }>;

/** Refusals of commands, by errno. Titles are those of strerror(3), which has none for ENOTSUPP. */
export const ERRNO_PROBLEMS = {
  EPERM: { status: 403, title: "Operation not permitted" },
  ENOENT: { status: 404, title: "No such file or directory" },
  ESRCH: { status: 404, title: "No such process" },
  EIO: { status: 503, title: "Input/output error" },
  E2BIG: { status: 409, title: "Argument list too long" },
  EBADF: { status: 404, title: "Bad file descriptor" },
  EAGAIN: { status: 503, title: "Resource temporarily unavailable" },
  ENOMEM: { status: 507, title: "Cannot allocate memory" },
  EACCES: { status: 403, title: "Permission denied" },
  EFAULT: { status: 400, title: "Bad address" },
  EBUSY: { status: 503, title: "Device or resource busy" },
  EEXIST: { status: 409, title: "File exists" },
  ENODEV: { status: 400, title: "No such device" },
  ENOTDIR: { status: 400, title: "Not a directory" },
  EISDIR: { status: 400, title: "Is a directory" },
  EINVAL: { status: 400, title: "Invalid argument" },
  EMFILE: { status: 409, title: "Too many open files" },
  ENOSPC: { status: 409, title: "No space left on device" },
  ERANGE: { status: 400, title: "Numerical result out of range" },
  ENAMETOOLONG: { status: 400, title: "File name too long" },
  ENOTEMPTY: { status: 409, title: "Directory not empty" },
  ELOOP: { status: 400, title: "Too many levels of symbolic links" },
  EOVERFLOW: { status: 400, title: "Value too large for defined data type" },
  EBADFD: { status: 404, title: "File descriptor in bad state" },
  ENOTSOCK: { status: 400, title: "Socket operation on non-socket" },
  EOPNOTSUPP: { status: 405, title: "Operation not supported" },
  EAFNOSUPPORT: { status: 405, title: "Address family not supported by protocol" },
  EINPROGRESS: { status: 503, title: "Operation now in progress" },
  ENOTSUPP: { status: 405, title: "Operation not supported by the kernel" },
} as const satisfies Record<Errno, { readonly status: number; readonly title: string }>;

export type ProblemName = keyof typeof PROBLEMS;

const ROWS: Readonly<Record<ProblemName | Errno, { readonly status: number; readonly title: string }>> = {
  ...PROBLEMS,
  ...ERRNO_PROBLEMS,
};

/** Further fields of a problem. */
export interface ProblemExtras {
  readonly errno?: string;
  readonly cmd?: string;
  /** The event that records the refused command; left out: no event does. */
  readonly seq?: number;
  /** The caller's quota that the request would exceed. */
  readonly quota?: string;
  /** The number of elements of a batch that were done before it was refused. */
  readonly count?: number;
  /** The place in the request, such as "elements[3].key". */
  readonly where?: string;
  /** The oldest event that is not archived. */
  readonly oldest_seq?: number;
  /** The last event that the history has. */
  readonly reached_seq?: number;
  /** Why a position is refused, such as "other-life". */
  readonly reason?: string;
}

export interface ProblemDocument extends ProblemExtras {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
}

/** The status that a problem is answered with. */
export function statusOf(name: ProblemName | Errno): number {
  return ROWS[name].status;
}

export function problemDocument(name: ProblemName | Errno, detail: string, extras: ProblemExtras): ProblemDocument {
  const { status, title } = ROWS[name];
  const kind = Object.hasOwn(ERRNO, name) ? "errno" : "problem";
  return { type: `urn:mapledger:${kind}:${name}`, title, status, detail, ...extras };
}
