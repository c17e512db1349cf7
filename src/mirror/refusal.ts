import { ERRNO, errnoName } from "../abi/errno.ts";
import type { MirrorRefusal } from "../engine/ports.ts";
import { type Privilege, refusedFor } from "./capability.ts";

/**
 * What the kernel refused with the negative errno `ret`, as a sentence: what was attempted, colon, what it said. `needed`: the
 * capabilities that the operation takes, of which the sentence names one that is missing.
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

/** Whether a call was refused for want of descriptors or memory: that says nothing of what it was about. */
export function isShortage(ret: number): boolean {
  return SHORTAGES.includes(ret);
}
