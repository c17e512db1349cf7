import { readFileSync } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { openBpf } from "../native/probe.ts";
import { isShortage } from "./refusal.ts";

const POLLIN = 0x1;
const POLLHUP = 0x10;
/** struct pollfd: 0 i32 fd, 4 i16 events, 6 i16 revents */
const POLLFD_BYTES = 8;

/** Access to pidfds, or the reason why this machine has none. `later`: it may have them later. */
export function openPidfds(): Bpf | { readonly off: string; readonly later: boolean } {
  const bpf = openBpf();
  if ("off" in bpf) return { ...bpf, later: false };
  const fd = bpf.pidfdOpen(process.pid);
  if (fd < 0) return { off: `pidfd_open(2) is refused: ${errnoName(-fd)}`, later: isShortage(fd) };
  bpf.close(fd);
  return bpf;
}

/**
 * For each pidfd, whether its process has exited. A pidfd is readable from then on, also while the process is a zombie.
 */
export function haveExited(bpf: Bpf, pidfds: readonly number[]): boolean[] {
  if (pidfds.length === 0) return [];
  const polled = Buffer.alloc(POLLFD_BYTES * pidfds.length);
  pidfds.forEach((pidfd, at) => {
    polled.writeInt32LE(pidfd, at * POLLFD_BYTES);
    polled.writeInt16LE(POLLIN, at * POLLFD_BYTES + 4);
  });
  bpf.libc("poll", polled, pidfds.length, 0);
  return pidfds.map((_, at) => (polled.readInt16LE(at * POLLFD_BYTES + 6) & (POLLIN | POLLHUP)) !== 0);
}

/**
 * Field 22 of /proc/PID/stat. The fields are counted from the end of the name, which may contain any character. Throws
 * if the process does not exist.
 */
export function startTimeOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] as string;
}

/** If /proc is mounted with hidepid=, it has no directory of a process that this process may not trace. */
export const HIDDEN = "which hidepid= hides from the service";

/**
 * The start time of a process whose pidfd is open, or a negative errno. ESRCH: it has exited. EPERM: it lives, but
 * /proc does not show it. Other errnos say nothing about the process.
 */
export function startTimeByPidfd(bpf: Bpf, pidfd: number, pid: number): string | number {
  try {
    return startTimeOf(pid);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    if (!UNSEEN.includes(errno)) return errno;
    return haveExited(bpf, [pidfd])[0] === true ? -ERRNO.ESRCH : -ERRNO.EPERM;
  }
}

const UNSEEN: readonly number[] = [-ERRNO.ENOENT, -ERRNO.ESRCH, -ERRNO.EPERM, -ERRNO.EACCES];

/** The id of this boot. Start times are relative to it. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}
