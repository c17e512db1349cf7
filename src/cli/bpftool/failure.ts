/** Why a command ends without success, and the exit code that bpftool has for it. */

import { ERRNO, type Errno } from "../../abi/errno.ts";
import { Refused } from "../../client/api.ts";

/** -1 of a command of bpftool's, as an exit code: wrong usage, and whatever no errno names. */
export const FAILED = 255;

/** `message`: bpftool's text, or ours in its place; `detail`: the rule of the service that was broken. */
export class Failure extends Error {
  readonly code: number;
  readonly detail: string | null;

  constructor(message: string, code = FAILED, detail: string | null = null) {
    super(message);
    this.code = code;
    this.detail = detail;
  }
}

/** The command has printed all that there is to say; it ends with this exit code. */
export class Ended extends Error {
  readonly code: number;

  constructor(code: number) {
    super();
    this.code = code;
  }
}

/** The command was called wrongly: its usage is shown. */
export class WrongUsage extends Error {}

/** The exit code of a command of bpftool's that returns -errno. */
export function codeOf(errno: string | undefined): number {
  const number = errno !== undefined && Object.hasOwn(ERRNO, errno) ? ERRNO[errno as Errno] : 1;
  return -number & 0xff;
}

/** strerror(3), as glibc has it: the service's titles are these texts, but for ENOTSUPP, which glibc does not know. */
export function errnoText(errno: Errno, title: string): string {
  return errno === "ENOTSUPP" ? `Unknown error ${ERRNO.ENOTSUPP}` : title;
}

/**
 * "update failed: File exists", and the service's detail. `code`: the exit code, if it is not the errno's. Throws what is
 * no refusal.
 */
export function refusal(doing: string, error: unknown, code?: number): Failure {
  if (!(error instanceof Refused)) throw error;
  const { message, code: own, detail } = refused(error);
  return new Failure(`${doing}: ${message}`, code ?? own, detail);
}

/** A refusal that says nothing of what was being done. */
export function refused({ problem: { title, detail, errno } }: Refused): Failure {
  const text = errno === undefined ? title : errnoText(errno as Errno, title);
  return new Failure(text, codeOf(errno), detail === undefined || detail === title ? null : detail);
}

/** Whether the service has refused a request with this errno. */
export function isErrno(error: unknown, errno: Errno): boolean {
  return error instanceof Refused && error.problem.errno === errno;
}
