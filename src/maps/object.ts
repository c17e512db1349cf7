/**
 * Kernel objects that are not maps, with the facts that bpf(2)'s map commands look at. Descriptors refer to objects;
 * maps of some types hold references to them, or lose elements when they end.
 */
export type ObjectRecord = {
  readonly id: number;
  /**
   * The caller who opened it first; left out: the owner, because the state was archived by a release that kept no
   * creators.
   */
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

/** A file or a directory. `path` null: a file that nobody else can open. */
interface InodeFacts {
  readonly kind: "file" | "dir";
  readonly path: string | null;
  /** Device and inode number of a real file with a path. */
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

/** The process that a pidfd refers to. */
export interface ProcessFacts {
  readonly kind: "process";
  readonly pid: number;
  /** Ticks since boot, as in /proc/PID/stat: tells a process from a later one with the same pid. */
  readonly startTime: string;
  readonly exited: boolean;
}

interface CgroupFacts {
  readonly kind: "cgroup";
  readonly path: string | null;
  /** The inode number: u64 as decimal. */
  readonly cgroupId: string;
  /** Removed by rmdir(2); descriptors may still be open. */
  readonly removed: boolean;
}

interface PerfEventFacts {
  readonly kind: "perf_event";
}

export interface ProgFacts {
  readonly kind: "prog";
  /** The id that BPF_PROG_GET_FD_BY_ID takes, and a lookup in a PROG_ARRAY answers. */
  readonly progId: number;
  /** enum bpf_prog_type and enum bpf_attach_type. */
  readonly progType: number;
  readonly expectedAttachType: number;
  readonly name: string;
  /**
   * bpf_prog_info.tag in hex, bpf_prog_info.load_time (ns since boot, decimal) and /proc/sys/kernel/random/boot_id.
   * Together they tell a real program from a later one with the same id. Programs that exist in the ledger only have
   * none of them, and neither have real programs in events of releases that did not record them.
   */
  readonly tag?: string;
  readonly loadTime?: string;
  readonly boot?: string;
}

/** BTF that BPF_BTF_LOAD has loaded. */
export interface BtfFacts {
  readonly kind: "btf";
  readonly btfId: number;
  /** The blob, in hex. */
  readonly data: string;
}

/** The bytes of kernel memory that an object adds to its creator's quota. */
export function objectBytes(facts: ObjectFacts): number {
  return facts.kind === "btf" ? facts.data.length / 2 : 0;
}

export type ObjectKind = ObjectFacts["kind"];

/**
 * The inode number that all anonymous files share: descriptors of maps, programs, BTF and perf events. No object of the
 * ledger has this number as its id.
 */
export const ANON_INODE = 0xffff_ffff;

/**
 * A text that two descriptors have in common if they refer to the same object; null: only duplicates of one descriptor
 * refer to the same object.
 */
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

/** Whether a program can be told from every earlier and later one with its id. */
export function isFullyKnown({ tag, loadTime, boot }: ProgFacts): boolean {
  return tag !== undefined && loadTime !== undefined && boot !== undefined;
}
