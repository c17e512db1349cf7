import { ERRNO, errnoName } from "../abi/errno.ts";
import type { MirrorRefusal } from "../engine/ports.ts";
import { type Privilege, refusedFor } from "./capability.ts";

/**
 * A refusal of the kernel as a sentence: the attempt, colon, the errno. `needed`: capabilities of the operation; the
 * sentence names the first missing one.
 */
export function refusal(
  mapId: number,
  operation: string,
  ret: number,
  attempted: string,
  needed: readonly Privilege[] = [],
): MirrorRefusal {
  return { mapId, operation, errno: errnoName(-ret), detail: refusedFor(attempted, ret, needed) };
}

/** 0, or the negative errno that a call of node:fs threw. */
export function errnoOf(call: () => void): number {
  try {
    call();
    return 0;
  } catch (error) {
    const errno = (error as NodeJS.ErrnoException).errno;
    if (errno === undefined) throw error;
    return errno;
  }
}

const ENFILE = 23;
const SHORTAGES: readonly number[] = [-ERRNO.EMFILE, -ENFILE, -ERRNO.ENOMEM];

/** Whether a call failed for lack of descriptors or memory, which says nothing about the object. */
export function isShortage(ret: number): boolean {
  return SHORTAGES.includes(ret);
}
