/**
 * Kernel objects that are no maps, as far as bpf(2)'s map commands look at them. A descriptor refers to one; maps of some
 * types hold them, or lose what belongs to them when they go.
 */
export type ObjectRecord = {
  readonly id: number;
  /** The caller who opened it first; left out: as of a map. */
  readonly creator?: string;
} & ObjectFacts;

export type ObjectFacts =
  | PipeFacts
  | InodeFacts
  | SocketFacts
  | ProcessFacts
  | CgroupFacts
  | PerfEventFacts
  | ProgFacts
  | BtfFacts;

interface PipeFacts {
  readonly kind: "pipe";
}

/** A file or a directory. Without a path: a file that nobody else can open. */
interface InodeFacts {
  readonly kind: "file" | "dir";
  readonly path: string | null;
  /** Of a real one with a path: device and inode number. */
  readonly inode?: string;
}

export interface SocketFacts {
  readonly kind: "socket";
  readonly protocol: "tcp" | "udp" | "unix_stream" | "unix_dgram" | "xsk";
  readonly state: "idle" | "bound" | "listening" | "connected";
  /** SO_REUSEPORT */
  readonly reuseport: boolean;
  /** SO_COOKIE: u64 as decimal. */
  readonly cookie: string;
}

/** What a pidfd refers to. */
export interface ProcessFacts {
  readonly kind: "process";
  readonly pid: number;
  /** Ticks since boot, as in /proc/PID/stat: tells a process from a later one with its pid. */
  readonly startTime: string;
  readonly exited: boolean;
}

interface CgroupFacts {
  readonly kind: "cgroup";
  readonly path: string | null;
  /** Its inode number: u64 as decimal. */
  readonly cgroupId: string;
  /** rmdir(2) has taken it away, descriptors of it may be open all the same. */
  readonly removed: boolean;
}

interface PerfEventFacts {
  readonly kind: "perf_event";
}

export interface ProgFacts {
  readonly kind: "prog";
  /** What BPF_PROG_GET_FD_BY_ID takes, and a lookup in a PROG_ARRAY answers. */
  readonly progId: number;
  /** enum bpf_prog_type and enum bpf_attach_type. */
  readonly progType: number;
  readonly expectedAttachType: number;
  readonly name: string;
  /**
   * bpf_prog_info.tag in hex, bpf_prog_info.load_time (ns since boot, decimal) and /proc/sys/kernel/random/boot_id. A real
   * program has all three, and they tell it from a later program with its id. Programs of the ledger alone have none, nor
   * have real programs in events that were written before events kept them.
   */
  readonly tag?: string;
  readonly loadTime?: string;
  readonly boot?: string;
}

/** What BPF_BTF_LOAD made. */
export interface BtfFacts {
  readonly kind: "btf";
  readonly btfId: number;
  /** The blob, in hex. */
  readonly data: string;
}

/** Bytes of the kernel's memory that an object is charged with. */
export function objectBytes(facts: ObjectFacts): number {
  return facts.kind === "btf" ? facts.data.length / 2 : 0;
}

export type ObjectKind = ObjectFacts["kind"];

/** The inode that all anonymous files share: those of maps, programs, BTF and perf events. No object has this id. */
export const ANON_INODE = 0xffff_ffff;

/** What makes two descriptors refer to one object, beside being duplicates; null: nothing does. */
export function identityOf(facts: ObjectFacts): string | null {
  switch (facts.kind) {
    case "file":
    case "dir":
      if (facts.path === null) return null;
      return facts.inode === undefined ? `path ${facts.path}` : `inode ${facts.inode}`;
    case "process":
      return `process ${facts.pid} ${facts.startTime}`;
    case "cgroup":
      return `cgroup ${facts.cgroupId}`;
    case "prog":
      return `prog ${facts.progId}${isFullyKnown(facts) ? ` ${facts.tag} ${facts.loadTime} ${facts.boot}` : ""}`;
    case "btf":
      return `btf ${facts.btfId}`;
    case "pipe":
    case "socket":
    case "perf_event":
      return null;
  }
}

/** Whether a program can be told from every other that has had, or will have, its id. */
export function isFullyKnown({ tag, loadTime, boot }: ProgFacts): boolean {
  return tag !== undefined && loadTime !== undefined && boot !== undefined;
}
