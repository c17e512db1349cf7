import { BPF_CMD } from "./bpf.ts";

/**
 * What happens to sessions and their descriptors beside bpf(2): each is a command with an event of its own.
 * Numbers are mapledger's; they stand far above enum bpf_cmd, so that both fit one column of the log.
 */
export const SERVICE_CMD = {
  /** A session's birth: what fork(2) is to a process. */
  SESSION_OPEN: 4096,
  /** A session's end, after each of its descriptors has been closed by a CLOSE of its own. */
  SESSION_END: 4097,
  /** A lease renewed on request. */
  SESSION_RENEW: 4098,
  /** close(2). */
  CLOSE: 4099,
  /** dup(2). */
  DUP: 4100,
  /** A descriptor that no bpf command on maps makes: a pipe, a socket, a cgroup. */
  OPEN: 4101,
  /** unlink(2) on bpffs. */
  UNLINK: 4102,
  /** mkdir(2) on bpffs. */
  MKDIR: 4103,
  /** rmdir(2) on bpffs. */
  RMDIR: 4104,
  /** A page of a map's elements, in the state's order. */
  MAP_ELEMENTS: 4105,
  /** What the kernel refused when the mirror followed an earlier event. */
  MIRROR_REFUSED: 4106,
  /** The mirror of a map made equal to the state again. */
  MIRROR_RESYNC: 4107,
  /** What mmap(2) of a map's memory would show. */
  MEMORY_READ: 4108,
  /** A store through such a mapping. */
  MEMORY_WRITE: 4109,
  /** A process has exited, a cgroup was removed. */
  OBJECT_END: 4110,
  /** The machine's network interfaces are others than before. */
  INTERFACES: 4111,
  /** Events were moved to an archive; those up to attr.through are no longer in the log. */
  ARCHIVE: 4112,
  /** What a comparison of a map with its kernel map has found. */
  MIRROR_DRIFT: 4113,
  /** What is done about that from now on, and how often it is looked. */
  MIRROR_POLICY: 4114,
  /** The mirror noticed something on the host: a pin replaced or gone, bpffs unmounted, a kernel map that nothing holds. */
  MIRROR_FOUND: 4115,
  /** A map follows another kernel map from now on: its pin names a new one. */
  MIRROR_FOLLOW: 4116,
  /** An operator decided a drift: the ledger's values or the kernel's. */
  MIRROR_DECIDE: 4117,
  /** An operator had a map's kernel map made anew. */
  MIRROR_RECREATE: 4118,
  /** An operator gave the directory of pins to this log. */
  MIRROR_TAKE_OVER: 4119,
  /** An operator ended an adoption: the kernel map stays, the map no longer follows it. */
  MIRROR_RELEASE: 4120,
  /** An operator had a pin of a map put back where another object was pinned. */
  MIRROR_REPIN: 4121,
  /** An operator had the mirror's pins removed from the host. */
  MIRROR_LEAVE: 4122,
  /** The ledger freed a map whose kernel map lives on: a program or another pin holds it. */
  MIRROR_FREED: 4123,
  /** A checkpoint of the log's tree was signed; it has every event up to attr.size. */
  CHECKPOINT: 4124,
  /** An operator had the log's tree begun anew: the former one was missing, damaged, or of another log. */
  TREE_BEGIN: 4125,
  /** A backup was restored: from here on this is a ledger of its own, beside the one that the backup is of. */
  BACKUP_RESTORE: 4126,
  /** A caller asked for what he may not do. */
  ACCESS_REFUSED: 4127,
  /** The tokens' file was read: who may do what from now on. */
  CALLERS: 4128,
  /** An operator gave the log another key: it signs checkpoints from here on. */
  KEY_ROTATE: 4129,
  /** The files of the TCP port's certificates were read: what is in force from now on. */
  CERTIFICATES: 4130,
  /** The machine's clock was put back: later events have its time, which is before that of the event before this one. */
  CLOCK_STEP: 4131,
  /** What an event has put off (out.deferred): elements of a map let go of what they refer to, or go with an object. */
  FREE_DEFERRED: 4132,
} as const;

/** Kinds of descriptors that are of no map: what a process may hand to bpf(2) instead of one. */
export const OPEN_KINDS = [
  "pipe",
  "file",
  "dir",
  "tcp_idle",
  "tcp_listen",
  "tcp_connected",
  "udp_idle",
  "udp_bound",
  "unix_stream",
  "unix_dgram",
  "xsk",
  "pidfd",
  "pidfd_self",
  "pidfd_dead",
  "cgroup",
  "perf_event",
  "prog",
] as const;

/** What is done about elements that others have written into a kernel map: tell of them, undo them, or take them over. */
export const DRIFT_POLICIES = ["report", "repair", "import"] as const;

/** What is done where the pin of an adopted map names another kernel map. */
export const ON_REPLACE = ["follow", "report"] as const;

/**
 * Which shape the kernel map of an LRU map has. "exact": the max_entries and map_flags that were asked for, so that
 * programs and libbpf find the map that they expect; the kernel evicts elements by its own rules. "roomy": one list and
 * room beside max_entries, so that the kernel never evicts an element by itself.
 */
export const MIRROR_SHAPES = ["exact", "roomy"] as const;

/** Whose values win where an operator decides a drift. */
export const SIDES = ["ledger", "kernel"] as const;

/** Those that bpf(2) asks for, <linux/capability.h>. */
export const CAPABILITIES = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"] as const;

/** Every command that an event can be of, by name. */
export const CMD = { ...BPF_CMD, ...SERVICE_CMD } as const;
export type CmdName = keyof typeof CMD;

const NAMES = new Map<number, CmdName>(Object.entries(CMD).map(([name, number]) => [number, name as CmdName]));

/** The name of a command's number, or undefined where there is none. */
export function cmdName(number: number): CmdName | undefined {
  return NAMES.get(number);
}
