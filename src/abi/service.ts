import { BPF_CMD, type MapCmdName } from "./bpf.ts";

/**
 * Commands beside bpf(2), on sessions, descriptors, bpffs and the mirror; each has events of its own. The numbers are
 * mapledger's, far above enum bpf_cmd, so that both share a column of the log.
 */
export const SERVICE_CMD = {
  /** A session begins, as a process does by fork(2). */
  SESSION_OPEN: 4096,
  /** A session ends. Before this event, each of its descriptors has a CLOSE event. */
  SESSION_END: 4097,
  /** A caller renews a session's lease. */
  SESSION_RENEW: 4098,
  /** close(2). */
  CLOSE: 4099,
  /** dup(2). */
  DUP: 4100,
  /** Opens a descriptor that no map command of bpf(2) makes: of a pipe, a socket, a cgroup, ... */
  OPEN: 4101,
  /** unlink(2) on bpffs. */
  UNLINK: 4102,
  /** mkdir(2) on bpffs. */
  MKDIR: 4103,
  /** rmdir(2) on bpffs. */
  RMDIR: 4104,
  /** A page of a map's elements, in the order of the state's cells. */
  MAP_ELEMENTS: 4105,
  /** The kernel refused a change when the mirror applied an event to the kernel map. */
  MIRROR_REFUSED: 4106,
  /** The mirror has made a kernel map equal to the state again. */
  MIRROR_RESYNC: 4107,
  /** Reads a map's memory, as an mmap(2) of it would show it. */
  MEMORY_READ: 4108,
  /** Writes to a map's memory, as through an mmap(2) of it. */
  MEMORY_WRITE: 4109,
  /** A process has exited, or a cgroup was removed. */
  OBJECT_END: 4110,
  /** The machine's network interfaces have changed. */
  INTERFACES: 4111,
  /** Events were moved to an archive; those up to attr.through are no longer in the log. */
  ARCHIVE: 4112,
  /** The differences that a comparison of a map with its kernel map has found. */
  MIRROR_DRIFT: 4113,
  /** Sets a map's drift policy (DRIFT_POLICIES), and the interval between comparisons. */
  MIRROR_POLICY: 4114,
  /**
   * The mirror has noticed a change on the host: a pin was replaced or removed, bpffs was unmounted, or a kernel map
   * has no holder any more.
   */
  MIRROR_FOUND: 4115,
  /** A map follows another kernel map from now on, because its pin names it. */
  MIRROR_FOLLOW: 4116,
  /** An operator has decided a drift in favour of the ledger's values, or the kernel's. */
  MIRROR_DECIDE: 4117,
  /** An operator had the kernel map of a map created again. */
  MIRROR_RECREATE: 4118,
  /** An operator had this log take over the directory of pins from another one. */
  MIRROR_TAKE_OVER: 4119,
  /** An operator has ended an adoption: the kernel map stays, and the ledger's map is no longer tied to any kernel map. */
  MIRROR_RELEASE: 4120,
  /** An operator had a map pinned again at a path where another object was pinned. */
  MIRROR_REPIN: 4121,
  /** An operator had the mirror's pins removed from the host. */
  MIRROR_LEAVE: 4122,
  /** The ledger has freed a map; its kernel map still exists, because a program or another pin refers to it. */
  MIRROR_FREED: 4123,
  /** A checkpoint of the log's tree was signed; the tree has every event up to attr.size. */
  CHECKPOINT: 4124,
  /** An operator had the log's tree built again: the former one was missing, damaged, or of another log. */
  TREE_BEGIN: 4125,
  /** A backup was restored. From here on this log is a ledger of its own, apart from the one that was backed up. */
  BACKUP_RESTORE: 4126,
  /** A request was refused because the caller's scopes do not allow it. */
  ACCESS_REFUSED: 4127,
  /** The tokens file was read: the callers and scopes that are valid from now on. */
  CALLERS: 4128,
  /** An operator had the log's key replaced: the new one signs checkpoints from here on. */
  KEY_ROTATE: 4129,
  /** The TCP port's certificates were read: those that are valid from now on. */
  CERTIFICATES: 4130,
  /** The machine's clock was put back: later events have earlier times than those before this event. */
  CLOCK_STEP: 4131,
  /**
   * Work that an earlier event has deferred (out.deferred) was done: a freed map's references were dropped, or elements
   * were deleted with their object.
   */
  FREE_DEFERRED: 4132,
} as const;

/** Kinds of descriptors that are not of maps, but that a process may pass to bpf(2). */
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

/**
 * The reactions to elements that others have written to a kernel map: report them, repair the kernel map, or import
 * them into the ledger.
 */
export const DRIFT_POLICIES = ["report", "repair", "import"] as const;

/** The reactions if the pin of an adopted map names another kernel map: follow that one, or report it. */
export const ON_REPLACE = ["follow", "report"] as const;

/**
 * The shape of an LRU map's kernel map. "exact": it has the max_entries and map_flags that were requested, so that
 * programs and libbpf find the map they expect; the kernel then evicts by its own rules. "roomy": it has one LRU list
 * and spare entries, so that the kernel never evicts an element by itself.
 */
export const MIRROR_SHAPES = ["exact", "roomy"] as const;

/** The sides that an operator may choose if a map and its kernel map differ. */
export const SIDES = ["ledger", "kernel"] as const;

/** The capabilities that bpf(2) checks, <linux/capability.h>. */
export const CAPABILITIES = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"] as const;

/** The `cmd` of a command that is unknown here, in place of its caller's number: no command has it. */
export const UNKNOWN_CMD = -1;

/** All commands that events can have, by name. */
export const CMD = { ...BPF_CMD, ...SERVICE_CMD } as const;
export type CmdName = keyof typeof CMD;

/** The commands that mapledger has. */
export type KnownCmdName = MapCmdName | keyof typeof SERVICE_CMD;
export type KnownCmd = (typeof CMD)[KnownCmdName];

const NAMES = new Map<number, CmdName>(Object.entries(CMD).map(([name, number]) => [number, name as CmdName]));

/** The name of a command; undefined if there is no such number. */
export function cmdName(number: number): CmdName | undefined {
  return NAMES.get(number);
}
