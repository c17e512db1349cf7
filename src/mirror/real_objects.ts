/** Opens the kernel objects that sessions' descriptors refer to, or makes them. */

import { spawn } from "node:child_process";
import { constants, fstatSync, mkdtempSync, openSync, readFileSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BPF_CMD } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import { CGROUPS_FOLDER } from "../data/layout.ts";
import type { ObjectFacts, SocketFacts } from "../maps/object.ts";
import type { Bpf } from "../native/bpf.ts";
import { socketPair } from "../native/socket_pair.ts";
import type { HeldObject, MadeCgroup, ObjectSpec } from "../syscall/command.ts";
import { neededAt, neededToLoad, type Privilege } from "./capability.ts";
import { MadeCgroups } from "./made_cgroups.ts";
import { OPEN_ROOTS_DEFAULT, type OpenRefusal, openBelow, openRoots } from "./open_below.ts";
import { bootId, HIDDEN, startTimeByPidfd, startTimeOf } from "./pidfd.ts";
import { errnoOf } from "./refusal.ts";

/** A kernel object, held by a descriptor of the service. */
export interface RealObject extends HeldObject {
  readonly facts: ObjectFacts;
}

/** The places at which objects may be opened, and the notes of cgroups that are made. */
export interface OpenPlaces {
  /** Directories below which paths may be opened; null: the caller has checked the paths. */
  readonly roots: readonly string[] | null;
  readonly cgroups: MadeCgroups;
}

/** The default of the setting, without notes. */
export const DEFAULT_PLACES: OpenPlaces = { roots: openRoots(OPEN_ROOTS_DEFAULT), cgroups: new MadeCgroups(null) };

const AF_INET = 2;
const AF_XDP = 44;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_REUSEPORT = 15;
const SO_COOKIE = 57;
const ADDRESS_BYTES = 16;
/** O_TMPFILE, asm-generic/fcntl.h; it needs O_DIRECTORY. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;
const READ_DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NONBLOCK | constants.O_NOCTTY;
const CGROUP2_SUPER_MAGIC = 0x63677270;
/** More than the size of struct statfs on any machine. */
const STATFS_BYTES = 256;
/** struct perf_event_attr with PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT; PERF_FLAG_FD_CLOEXEC. */
const PERF_ATTR_BYTES = 128;
const PERF_TYPE_SOFTWARE = 1;
const PERF_COUNT_SW_BPF_OUTPUT = 10;
const PERF_FLAG_FD_CLOEXEC = 8;
/** struct bpf_prog_info: 0 u32 type, 4 u32 id, 8 u8[8] tag, 40 u64 load_time, 64 char[16] name */
const PROG_INFO_BYTES = 128;
/** r0 = 0; exit */
const RETURN_0 = Buffer.from("b7000000000000009500000000000000", "hex");

/** The places of a service. */
export function openPlaces({ data, openRoots: roots }: { data: string; openRoots: string }): OpenPlaces {
  return { roots: openRoots(roots), cgroups: new MadeCgroups(join(data, CGROUPS_FOLDER)) };
}

/**
 * Opens the object that a spec names, or makes it. Refusals are the kernel's, except for paths that are not below a
 * root.
 */
export function openRealObject(
  bpf: Bpf,
  spec: ObjectSpec,
  places: OpenPlaces = DEFAULT_PLACES,
): RealObject | OpenRefusal {
  try {
    return open(bpf, spec, places);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    const needed: readonly Privilege[] = [spec.path === undefined ? "CAP_DAC_OVERRIDE" : "CAP_DAC_READ_SEARCH"];
    return { ret: errno, detail: `opening ${spec.path ?? `a ${spec.kind}`}`, needed };
  }
}

/** Closes an object's descriptors. A cgroup that was made for it stays, and is removed separately. */
export function closeObject(close: (fd: number) => void, { fd, others }: HeldObject): void {
  for (const open of [fd, ...others]) close(open);
}

function open(bpf: Bpf, spec: ObjectSpec, places: OpenPlaces): RealObject | OpenRefusal {
  const { kind, path } = spec;
  switch (kind) {
    case "pipe": {
      const ends = Buffer.alloc(8);
      const ret = bpf.libc("pipe", ends);
      if (ret < 0) return { ret, detail: "making a pipe" };
      return held(ends.readInt32LE(0), { kind }, [ends.readInt32LE(4)]);
    }
    case "file":
      return path === undefined
        ? held(openSync(tmpdir(), O_TMPFILE | constants.O_RDWR, 0o600), { kind, path: null })
        : inode(bpf, kind, path, places);
    case "dir":
      return path === undefined ? newDirectory() : inode(bpf, kind, path, places);
    case "cgroup":
      return cgroup(bpf, path, places);
    case "pidfd":
    case "pidfd_self":
      return process_(bpf, kind === "pidfd" ? (spec.pid ?? 0) : process.pid);
    case "pidfd_dead":
      return deadProcess(bpf);
    case "perf_event": {
      const attr = Buffer.alloc(PERF_ATTR_BYTES);
      attr.writeUInt32LE(PERF_TYPE_SOFTWARE, 0);
      attr.writeUInt32LE(PERF_ATTR_BYTES, 4);
      attr.writeBigUInt64LE(BigInt(PERF_COUNT_SW_BPF_OUTPUT), 8);
      attr.writeBigUInt64LE(1n, 16);
      const fd = bpf.perfEventOpen(attr, 0, PERF_FLAG_FD_CLOEXEC);
      return fd < 0 ? { ret: fd, detail: "opening a perf event", needed: ["CAP_PERFMON"] } : held(fd, { kind });
    }
    case "prog":
      return program(bpf, spec, places);
    default:
      return socket(bpf, kind, spec.reuseport === true);
  }
}

function held(
  fd: number,
  facts: ObjectFacts,
  others: readonly number[] = [],
  made: MadeCgroup | null = null,
): RealObject {
  return { fd, facts, others, made };
}

/** The type is checked by the descriptor, because the path may name another entry by now. */
function inode(bpf: Bpf, kind: "file" | "dir", path: string, { roots }: OpenPlaces): RealObject | OpenRefusal {
  const fd = openBelow(bpf, roots, path, kind === "dir" ? "directory" : "anything");
  if (typeof fd !== "number") return fd;
  const found = fstatSync(fd, { bigint: true });
  const facts = { kind, path, inode: `${found.dev}:${found.ino}` };
  if (found.isFile()) return held(fd, facts);
  if (found.isDirectory()) return held(opened(bpf, fd), facts);
  bpf.close(fd);
  return { ret: -ERRNO.EOPNOTSUPP, detail: `opening ${path}, which is neither a file nor a directory` };
}

/**
 * Opens the directory of an O_PATH descriptor, which most commands of bpf(2) refuse (EBADF), and closes that
 * descriptor.
 */
function opened(bpf: Bpf, fd: number): number {
  try {
    return openSync(`/proc/self/fd/${fd}`, READ_DIRECTORY);
  } finally {
    bpf.close(fd);
  }
}

/** Makes a directory and removes it while it is open, so that nobody else can open it. */
function newDirectory(): RealObject {
  const path = mkdtempSync(join(tmpdir(), "mapledger-"));
  try {
    return held(openSync(path, READ_DIRECTORY), { kind: "dir", path: null });
  } finally {
    rmdirSync(path);
  }
}

type SocketKind = Exclude<
  ObjectSpec["kind"],
  "pipe" | "file" | "dir" | "cgroup" | "pidfd" | "pidfd_self" | "pidfd_dead" | "perf_event" | "prog"
>;

/** Makes a socket for a session. A TCP or UDP socket that is bound has a free port of the loopback address. */
function socket(bpf: Bpf, kind: SocketKind, reuseport: boolean): RealObject | OpenRefusal {
  const opened: number[] = [];
  const fail = (ret: number, detail: string): OpenRefusal => {
    for (const fd of opened) bpf.close(fd);
    return { ret, detail, ...(kind === "xsk" && { needed: ["CAP_NET_RAW"] }) };
  };
  const make = (domain: number, type: number): number => {
    const fd = bpf.libc("socket", domain, type, 0);
    if (fd >= 0) opened.push(fd);
    return fd;
  };
  const bound = (type: number): number => {
    const fd = make(AF_INET, type);
    if (fd < 0) return fd;
    const one = Buffer.alloc(4);
    one.writeInt32LE(1);
    if (reuseport) bpf.libc("setsockopt", fd, SOL_SOCKET, SO_REUSEPORT, one, one.length);
    const ret = bpf.libc("bind", fd, loopback(0), ADDRESS_BYTES);
    return ret < 0 ? ret : fd;
  };
  const listening = (): number => {
    const fd = bound(SOCK_STREAM);
    const ret = fd < 0 ? fd : bpf.libc("listen", fd, 4);
    return ret < 0 ? ret : fd;
  };
  const connected = (): number => {
    const server = listening();
    if (server < 0) return server;
    const address = Buffer.alloc(ADDRESS_BYTES);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(ADDRESS_BYTES);
    bpf.libc("getsockname", server, address, length);
    const client = make(AF_INET, SOCK_STREAM);
    const ret = client < 0 ? client : bpf.libc("connect", client, address, ADDRESS_BYTES);
    if (ret < 0) return ret;
    const peer = bpf.libc("accept", server, null, null);
    if (peer >= 0) opened.push(peer);
    return client;
  };
  const pair = (type: number): number => {
    const ends = socketPair(bpf, type);
    if (typeof ends === "number") return ends;
    opened.push(...ends);
    return ends[0];
  };
  const [protocol, state, ways] = {
    tcp_idle: ["tcp", "idle", () => make(AF_INET, SOCK_STREAM)],
    tcp_listen: ["tcp", "listening", listening],
    tcp_connected: ["tcp", "connected", connected],
    udp_idle: ["udp", "idle", () => make(AF_INET, SOCK_DGRAM)],
    udp_bound: ["udp", "bound", () => bound(SOCK_DGRAM)],
    unix_stream: ["unix_stream", "connected", () => pair(SOCK_STREAM)],
    unix_dgram: ["unix_dgram", "connected", () => pair(SOCK_DGRAM)],
    xsk: ["xsk", "idle", () => make(AF_XDP, SOCK_RAW)],
  }[kind] as [SocketFacts["protocol"], SocketFacts["state"], () => number];
  const fd = ways();
  if (fd < 0) return fail(fd, `making a ${kind} socket`);
  const facts = { kind: "socket", protocol, state, reuseport, cookie: cookieOf(bpf, fd) } as const;
  return held(
    fd,
    facts,
    opened.filter((other) => other !== fd),
  );
}

function loopback(port: number): Buffer {
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.writeUInt32BE(0x7f000001, 4);
  return address;
}

function cookieOf(bpf: Bpf, fd: number): string {
  const cookie = Buffer.alloc(8);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(cookie.length);
  bpf.libc("getsockopt", fd, SOL_SOCKET, SO_COOKIE, cookie, length);
  return String(cookie.readBigUInt64LE(0));
}

/**
 * Opens the cgroup of version 2 at a path. Without a path, makes a cgroup below the root of the hierarchy. The made
 * cgroup is removed when its last descriptor is closed.
 */
function cgroup(bpf: Bpf, path: string | undefined, { roots, cgroups }: OpenPlaces): RealObject | OpenRefusal {
  if (path !== undefined) return existingCgroup(bpf, path, roots);
  const parent = cgroupRoot();
  if (parent === null) return { ret: -ERRNO.ENOENT, detail: "making a cgroup: no cgroup2 is mounted" };
  let made = null as MadeCgroup | null;
  const unmade = errnoOf(() => {
    made = cgroups.make(parent);
  });
  if (made === null) return { ret: unmade, detail: `making a cgroup below ${parent}`, needed: ["CAP_DAC_OVERRIDE"] };
  const found = existingCgroup(bpf, made.path, [parent]);
  if ("facts" in found) return { ...found, made };
  cgroups.remove(made);
  return found;
}

function existingCgroup(bpf: Bpf, path: string, roots: readonly string[] | null): RealObject | OpenRefusal {
  const fd = openBelow(bpf, roots, path, "directory");
  if (typeof fd !== "number") return fd;
  if (fileSystemOf(bpf, fd) === CGROUP2_SUPER_MAGIC) {
    const cgroupId = String(fstatSync(fd, { bigint: true }).ino);
    return held(opened(bpf, fd), { kind: "cgroup", path, cgroupId, removed: false });
  }
  bpf.close(fd);
  return { ret: -ERRNO.EBADF, detail: `${path} is no cgroup of version 2, which is needed` };
}

/** struct statfs begins with f_type, a long. */
function fileSystemOf(bpf: Bpf, fd: number): number {
  const statfs = Buffer.alloc(STATFS_BYTES);
  return bpf.libc("fstatfs", fd, statfs) < 0 ? 0 : Number(statfs.readBigInt64LE(0));
}

/** The path at which a cgroup2 is mounted; null if none is. */
function cgroupRoot(): string | null {
  const mounts = readFileSync("/proc/mounts", "utf8").split("\n");
  return mounts.map((line) => line.split(" ")).find(([, , type]) => type === "cgroup2")?.[1] ?? null;
}

function process_(bpf: Bpf, pid: number): RealObject | OpenRefusal {
  const fd = bpf.pidfdOpen(pid);
  if (fd < 0) return { ret: fd, detail: `opening process ${pid}` };
  const startTime = startTimeByPidfd(bpf, fd, pid);
  if (typeof startTime === "string") return held(fd, { kind: "process", pid, startTime, exited: false });
  bpf.close(fd);
  if (startTime !== -ERRNO.EPERM) return { ret: startTime, detail: `reading /proc of process ${pid}` };
  return { ret: startTime, detail: `reading /proc of process ${pid}, ${HIDDEN}`, needed: ["CAP_SYS_PTRACE"] };
}

/** A child process that has exited and been waited for. */
function deadProcess(bpf: Bpf): RealObject | OpenRefusal {
  const child = spawn("sleep", ["60"], { stdio: "ignore" }).on("error", () => {});
  const { pid } = child;
  if (pid === undefined) return { ret: -ERRNO.EAGAIN, detail: "starting a process" };
  const fd = bpf.pidfdOpen(pid);
  const startTime = startTimeOf(pid);
  child.kill("SIGKILL");
  bpf.libc("waitpid", pid, null, 0);
  child.unref();
  return fd < 0
    ? { ret: fd, detail: `opening process ${pid}` }
    : held(fd, { kind: "process", pid, startTime, exited: true });
}

/** Opens a program by id or pin; without either, loads one of the given type that returns 0. */
function program(bpf: Bpf, spec: ObjectSpec, { roots }: OpenPlaces): RealObject | OpenRefusal {
  const { id, path, progType = 0, expectedAttachType = 0 } = spec;
  const boot = bootId();
  const fd =
    path !== undefined
      ? pinned(bpf, path, roots)
      : id !== undefined
        ? bpf.byId(BPF_CMD.BPF_PROG_GET_FD_BY_ID, id)
        : bpf.loadProgram(progType, expectedAttachType, RETURN_0);
  if (typeof fd !== "number") return fd;
  if (fd < 0)
    return id === undefined
      ? { ret: fd, detail: "loading a program", needed: neededToLoad(progType) }
      : { ret: fd, detail: `opening kernel program ${id}`, needed: ["CAP_SYS_ADMIN"] };
  const info = bpf.objectInfo(fd, PROG_INFO_BYTES);
  if (typeof info === "number" || !isProgram(fd)) {
    bpf.close(fd);
    return { ret: -ERRNO.EINVAL, detail: "what is there is no program" };
  }
  const name = info.toString("latin1", 64, 80).replace(/\0.*$/s, "");
  return held(fd, {
    kind: "prog",
    progId: info.readUInt32LE(4),
    progType: info.readUInt32LE(0),
    expectedAttachType,
    name,
    tag: info.toString("hex", 8, 16),
    loadTime: String(info.readBigUInt64LE(40)),
    boot,
  });
}

/** BPF_OBJ_GET with the descriptor that the path leads to below a root. */
function pinned(bpf: Bpf, path: string, roots: readonly string[] | null): number | OpenRefusal {
  const at = openBelow(bpf, roots, path, "anything");
  if (typeof at !== "number") return at;
  const held = `/proc/self/fd/${at}`;
  const fd = bpf.get(held);
  const needed = fd < 0 ? neededAt(held) : [];
  bpf.close(at);
  return fd < 0 ? { ret: fd, detail: `opening ${path}`, needed } : fd;
}

function isProgram(fd: number): boolean {
  return /^prog_type:/m.test(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"));
}
