/**
 * libc, and all of mapledger's native memory; no other file uses koffi. A call returns the C function's result, or a
 * negative errno.
 *
 * C gets addresses, so a field references the caller's buffers during the call: V8 may free a variable after its last
 * use.
 */

export type Koffi = typeof import("koffi");
type Syscall4 = (number: number, cmd: number, attr: Buffer | bigint | null, size: number) => number;
type Call = (...args: readonly (number | bigint | Buffer | null)[]) => number;
type Mmap = (addr: null, length: number, prot: number, flags: number, fd: number, offset: number) => bigint;

/** Other system calls: the same numbers on both machines but for perf_event_open. */
const PIDFD_OPEN = 434;
const OPENAT2 = 437;
const PERF_EVENT_OPEN: Partial<Record<NodeJS.Architecture, number>> = { x64: 298, arm64: 241 };

/** struct open_how: 0 u64 flags, 8 u64 mode, 16 u64 resolve. */
const OPEN_HOW_BYTES = 24;

const LIBC = {
  pipe: "int pipe(void *fds)",
  socket: "int socket(int domain, int type, int protocol)",
  socketpair: "int socketpair(int domain, int type, int protocol, void *fds)",
  bind: "int bind(int fd, void *addr, uint length)",
  listen: "int listen(int fd, int backlog)",
  connect: "int connect(int fd, void *addr, uint length)",
  accept: "int accept(int fd, void *addr, void *length)",
  setsockopt: "int setsockopt(int fd, int level, int name, void *value, uint length)",
  getsockopt: "int getsockopt(int fd, int level, int name, void *value, void *length)",
  getsockname: "int getsockname(int fd, void *addr, void *length)",
  poll: "int poll(void *fds, ulong count, int timeout)",
  dup: "int dup(int fd)",
  fstatfs: "int fstatfs(int fd, void *buf)",
  flock: "int flock(int fd, int operation)",
  renameat2: "int renameat2(int olddirfd, void *old, int newdirfd, void *new, uint flags)",
  waitpid: "int waitpid(int pid, void *status, int options)",
  mprotect: "int mprotect(void *addr, ulong length, int prot)",
  munmap: "int munmap(void *addr, ulong length)",
  syscall: "long syscall(long number, long a, void *b, long c, long d, long e)",
  perf: "long syscall(long number, void *attr, long pid, long cpu, long group, long flags)",
} as const;
type LibcCall = keyof typeof LIBC;

export const AT_FDCWD = -100;

/** Flags of renameat2(2), include/uapi/linux/fs.h; bpffs supports both. */
export const RENAME = { NOREPLACE: 1, EXCHANGE: 2 } as const;

export class Libc {
  readonly #koffi: Koffi;
  readonly #close: (fd: number) => number;
  readonly #calls: Readonly<Record<LibcCall, Call>>;
  readonly #mmap: Mmap;
  readonly #how = Buffer.allocUnsafeSlow(OPEN_HOW_BYTES).fill(0);
  // biome-ignore lint/correctness/noUnusedPrivateClassMembers: it is there to keep buffers alive
  #held: readonly unknown[] = [];

  /** syscall(2) with four arguments, as bpf(2) takes them. After -1, `errno()` is the reason. */
  protected readonly syscall4: Syscall4;

  constructor(koffi: Koffi) {
    const libc = koffi.load("libc.so.6");
    this.#koffi = koffi;
    this.syscall4 = libc.func("long syscall(long number, long cmd, void *attr, uint size)") as Syscall4;
    this.#close = libc.func("int close(int fd)") as (fd: number) => number;
    this.#calls = callsOf((prototype) => libc.func(prototype) as Call);
    this.#mmap = libc.func("void *mmap(void *addr, ulong length, int prot, int flags, int fd, int64_t offset)") as Mmap;
  }

  /**
   * mmap(2): maps pages of a file descriptor, or anonymous ones if fd is -1. Returns the address, or a negative errno.
   */
  mmap(length: number, prot: number, flags: number, fd: number, offset: number): bigint | number {
    const address = this.#mmap(null, length, prot, flags, fd, offset);
    return BigInt.asIntN(64, address) === -1n ? -this.#koffi.errno() : address;
  }

  /** A Buffer over mapped memory. It must not be used after munmap. */
  view(address: bigint, length: number): Buffer {
    return Buffer.from(this.#koffi.view(address, length));
  }

  /** The address of a buffer, valid as long as the caller keeps `buffer`. */
  address(buffer: Buffer): bigint {
    return this.#koffi.address(buffer);
  }

  /** Calls a function of libc. Returns its result, or a negative errno. Buffers are used during the call only. */
  libc(name: LibcCall, ...args: readonly (number | bigint | Buffer | null)[]): number {
    this.keepAlive(args);
    const ret = this.#calls[name](...args);
    return ret < 0 ? -this.#koffi.errno() : ret;
  }

  /** renameat2(2): atomic. `flags` is 0 or one of RENAME: NOREPLACE fails if `to` exists, EXCHANGE swaps the two. */
  rename(from: string, to: string, flags: number): number {
    const paths = [Buffer.from(`${from}\0`), Buffer.from(`${to}\0`)] as const;
    return this.libc("renameat2", AT_FDCWD, paths[0], AT_FDCWD, paths[1], flags);
  }

  /** openat2(2); `directory` may be AT_FDCWD; `resolve` has flags RESOLVE_* of <linux/openat2.h>. */
  openat2(directory: number, path: string, flags: number, resolve: number): number {
    this.#how.writeBigUInt64LE(BigInt(flags), 0);
    this.#how.writeBigUInt64LE(BigInt(resolve), 16);
    return this.libc(
      "syscall",
      OPENAT2,
      directory,
      Buffer.from(`${path}\0`),
      this.address(this.#how),
      OPEN_HOW_BYTES,
      0,
    );
  }

  pidfdOpen(pid: number): number {
    return this.libc("syscall", PIDFD_OPEN, pid, null, 0, 0, 0);
  }

  /** perf_event_open(2) for any process on one CPU; `attr` is a struct perf_event_attr. */
  perfEventOpen(attr: Buffer, cpu: number, flags: number): number {
    const number = PERF_EVENT_OPEN[process.arch] as number;
    this.keepAlive([attr]);
    const ret = this.#calls.perf(number, attr, -1, cpu, -1, flags);
    return ret < 0 ? -this.#koffi.errno() : ret;
  }

  close(fd: number): number {
    return this.#close(fd) < 0 ? -this.#koffi.errno() : 0;
  }

  /** The errno of the last call that failed. */
  protected errno(): number {
    return this.#koffi.errno();
  }

  /** Keeps buffers alive until the next call. */
  protected keepAlive(buffers: readonly unknown[]): void {
    this.#held = buffers;
  }
}

function callsOf(func: (prototype: string) => Call): Record<LibcCall, Call> {
  const names = Object.keys(LIBC) as LibcCall[];
  return Object.fromEntries(names.map((name) => [name, func(LIBC[name])])) as Record<LibcCall, Call>;
}
