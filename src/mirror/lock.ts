import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { ERRNO, errnoName } from "../abi/errno.ts";
import type { Bpf } from "../native/bpf.ts";
import { refusedIn } from "./layout.ts";
import { errnoOf } from "./refusal.ts";

/** flock(2), include/uapi/asm-generic/fcntl.h. */
const LOCK_EX = 2;
const LOCK_NB = 4;

/** A try fails if somebody removes the directory and makes it anew just then. */
const TRIES_MAX = 10;

/** The process that holds the directory, or the kernel's refusal. */
export type NotLocked = { readonly heldBy: string } | { readonly refused: string };

/**
 * A lock on a directory for this process: of two services that start at once, only one gets it. The kernel releases the
 * lock when the process ends, however it ends. While it is held, the file system can only be unmounted lazily (umount
 * -l).
 */
export class DirectoryLock {
  readonly path: string;
  /** Device and inode of the locked directory, whatever its path names later. */
  readonly dev: bigint;
  readonly ino: bigint;
  readonly #fd: number;
  #held = true;

  private constructor(path: string, fd: number) {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    this.path = path;
    this.#fd = fd;
    this.dev = dev;
    this.ino = ino;
  }

  static take(bpf: Bpf, path: string): DirectoryLock | NotLocked {
    for (let left = TRIES_MAX; left > 0; left--) {
      let fd = -1;
      // Node opens with O_CLOEXEC, so no child process keeps the lock.
      const unopened = errnoOf(() => {
        fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
      });
      if (unopened !== 0) return refused(path, "opening it", unopened);
      const lock = new DirectoryLock(path, fd);
      const ret = bpf.libc("flock", fd, LOCK_EX | LOCK_NB);
      if (ret === 0 && lock.isStill()) return lock;
      lock.release();
      if (ret === -ERRNO.EAGAIN) return { heldBy: holderOf(lock) };
      if (ret < 0) return refused(path, "locking it", ret);
    }
    return { refused: `${path}: locking it: it is removed and made again all the time` };
  }

  /** Whether the path still names the locked directory: false once it was removed, unmounted, or mounted over. */
  isStill(): boolean {
    let found = null as { readonly dev: bigint; readonly ino: bigint } | null;
    errnoOf(() => {
      found = statSync(this.path, { bigint: true });
    });
    return found?.dev === this.dev && found.ino === this.ino;
  }

  release(): void {
    if (this.#held) closeSync(this.#fd);
    this.#held = false;
  }
}

function refused(path: string, attempted: string, errno: number): NotLocked {
  return { refused: refusedIn(path, attempted, errno) ?? `${path}: ${attempted}: ${errnoName(-errno)}` };
}

/**
 * Parses /proc/locks, whose lines are `1: FLOCK  ADVISORY  WRITE PID MAJOR:MINOR:INODE 0 EOF`. It lists processes of
 * this pid namespace only.
 */
function holderOf({ dev, ino }: DirectoryLock): string {
  let locks = "";
  errnoOf(() => {
    locks = readFileSync("/proc/locks", "latin1");
  });
  const pids = [...locks.matchAll(/^\d+: FLOCK +\w+ +\w+ +(\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) /gm)]
    .filter(
      ([, , major, minor, inode]) => deviceOf(`0x${major}`, `0x${minor}`) === dev && BigInt(inode as string) === ino,
    )
    .map(([, pid]) => `process ${pid}`);
  return pids.length === 0 ? "another process" : pids.join(", ");
}

/** As glibc's gnu_dev_makedev(): 12 bits of the major at bit 8, 8 bits of the minor at bit 0, the rest above. */
function deviceOf(majorText: string, minorText: string): bigint {
  const [major, minor] = [BigInt(majorText), BigInt(minorText)];
  return ((major & 0xfffn) << 8n) | ((major & ~0xfffn) << 32n) | (minor & 0xffn) | ((minor & ~0xffn) << 12n);
}
