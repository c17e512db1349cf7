/** LMDB's errors, in the form that `faultIn` takes. */

import { Damaged, faultIn } from "../supervisor/derived_parts.ts";

/** LMDB's error codes for a damaged file: MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_VERSION_MISMATCH. */
const DAMAGED: ReadonlySet<number> = new Set([-30796, -30797, -30793, -30794]);
/** Errnos that show a failure of the machine, not damage of the file. */
const MACHINES: Readonly<Record<number, string>> = {
  5: "EIO",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  23: "ENFILE",
  24: "EMFILE",
  28: "ENOSPC",
  30: "EROFS",
  122: "EDQUOT",
};
/** The error of a failed write, in the form that `faultIn` takes. */
export function writeError(error: unknown): Error {
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "number" && DAMAGED.has(code)) return new Damaged(message, error);
  return withCode(message, typeof code === "number" ? (MACHINES[code] ?? "EIO") : "EIO");
}

/**
 * The error in the form that `faultIn` takes, if the machine has failed and not the file; null: the cause is not known.
 */
export function machineError(error: unknown): Error | null {
  const { code, message } = error as { code?: unknown; message: string };
  if (typeof code === "number") return MACHINES[code] === undefined ? null : withCode(message, MACHINES[code]);
  const found = faultIn(error);
  return found === "failed" || found === "full" ? (error as Error) : null;
}

/**
 * A numeric code is LMDB's or the machine's: such an error of a read is converted as one of a write, because opening
 * LMDB anew may end the failure. Other errors stay unchanged.
 */
export function readError(error: unknown): unknown {
  return typeof (error as { code?: unknown }).code === "number" ? writeError(error) : error;
}

export function withCode(message: string, code: string): Error {
  return Object.assign(new Error(message), { code });
}
