import { readFileSync } from "node:fs";
import { ERRNO } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";

/**
 * How the process's descriptors are shared out, so that neither connections nor what sessions hold can take the ones that the
 * service itself needs to read the host, the log and the state:
 *
 *     limit     RLIMIT_NOFILE, as /proc/self/limits has it
 *     own       the service's own: threads, databases, logs
 *     reserve   files that are open for a moment
 *     the rest  one half for connections, one half for kernel maps, objects and processes
 */
const OWN = 96;
const RESERVE = 64;
/** Where the limit is too small for all of this, so many of each all the same. */
const LEAST = 16;

/** With fewer the service does not start: threads, databases and connections would fail one after the other. */
const DESCRIPTORS_MIN = OWN + 2 * LEAST;

/** Throws where the process may not open as many files as the service needs. */
export function checkDescriptors(limit: number | null = descriptorLimit()): void {
  if (limit === null || limit >= DESCRIPTORS_MIN) return;
  throw new Error(
    `the process may have ${limit} files open (RLIMIT_NOFILE), and the service needs ${DESCRIPTORS_MIN}: raise it with ` +
      "ulimit -n, LimitNOFILE= of systemd or --ulimit nofile= of docker",
  );
}

/** Connections that may be open at once; null: that is not known. */
export function connectionsMax(limit: number | null = descriptorLimit()): number | null {
  return limit === null ? null : Math.max(LEAST, Math.floor((limit - OWN - RESERVE) / 2));
}

/** From this number on descriptors are left to connections and to the service: the kernel gives the lowest that is free. */
function heldBelow(limit: number): number {
  return Math.max(OWN + LEAST, limit - RESERVE - (connectionsMax(limit) as number));
}

/** A descriptor that is to be held for long: closed again, and -EMFILE, if too few would be left. */
export function toHold(bpf: Bpf, fd: number): number {
  mayHold ??= heldBelow(descriptorLimit() ?? Number.POSITIVE_INFINITY);
  if (fd < mayHold) return fd;
  bpf.close(fd);
  return -ERRNO.EMFILE;
}

let mayHold: number | undefined;

function descriptorLimit(): number | null {
  try {
    const soft = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}
