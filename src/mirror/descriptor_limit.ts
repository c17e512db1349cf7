/**
 * Divides the process's file descriptors, so that neither connections nor sessions' objects can take the ones that the
 * service needs to read the host, the log and the state:
 *
 *     limit     RLIMIT_NOFILE, from /proc/self/limits
 *     own       the service's own: threads, databases, logs
 *     reserve   files that are open for a moment
 *     the rest  one half for connections, one half for kernel maps, objects and processes
 */

import { readFileSync } from "node:fs";
import { ERRNO } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";

const OWN = 96;
const RESERVE = 64;
/** The least number for connections, and for held objects, if the limit is too small for this division. */
const LEAST = 16;

/** Of a listener's connections, those that streams may have. */
const STREAMS_PART = 3 / 4;

/** With a lower limit the service does not start: threads, databases and connections would fail one by one. */
const DESCRIPTORS_MIN = OWN + 2 * LEAST;

/** Throws if the process may open fewer files than the service needs. */
export function checkDescriptors(limit: number | null = descriptorLimit()): void {
  if (limit === null || limit >= DESCRIPTORS_MIN) return;
  throw new Error(
    `the process may have ${limit} files open (RLIMIT_NOFILE), and the service needs ${DESCRIPTORS_MIN}: raise it with ` +
      "ulimit -n, LimitNOFILE= of systemd or --ulimit nofile= of docker",
  );
}

/** The most connections that may be open at once; null if the limit is unknown. */
export function connectionsMax(limit: number | null = descriptorLimit()): number | null {
  return limit === null ? null : Math.max(LEAST, Math.floor((limit - OWN - RESERVE) / 2));
}

/** What a connection of an HTTP thread may take: its own, and both ends of the one by which requests are passed on. */
const DESCRIPTORS_A_CONNECTION = 3;

/**
 * The most connections that each thread may have of the TCP port, of which the service's thread is one, if so many are
 * for the port.
 */
export function threadConnectionsMax(connections: number, threads: number): number {
  return Math.max(1, Math.floor(connections / (1 + DESCRIPTORS_A_CONNECTION * (threads - 1))));
}

/**
 * The streams that are asked for, but no more than leave a quarter of each listener's connections to requests.
 * `threads`: those that share the TCP port.
 */
export function streamLimit(
  asked: number,
  listeners: number,
  limit: number | null = descriptorLimit(),
  threads = 1,
): { readonly most: number; readonly by: "MAPLEDGER_STREAMS_MAX" | "RLIMIT_NOFILE" } {
  const all = connectionsMax(limit);
  const connections = all === null ? null : threads * threadConnectionsMax(all / listeners, threads);
  const most = connections === null ? asked : Math.floor(connections * STREAMS_PART);
  return most < asked ? { most, by: "RLIMIT_NOFILE" } : { most: asked, by: "MAPLEDGER_STREAMS_MAX" };
}

/**
 * Descriptors from this number on are for connections and the service itself, whose threads may start later than
 * objects are opened. The kernel always assigns the lowest free number, so a higher one means that the lower ones are
 * used up.
 */
function heldBelow(limit: number): number {
  return Math.max(OWN + LEAST, limit - OWN - RESERVE - (connectionsMax(limit) as number));
}

/**
 * Checks a descriptor that is to be kept open for long. If it would leave too few for the service, closes it and
 * returns -EMFILE.
 */
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
