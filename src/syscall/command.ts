/** Commands, as the core runs them. CONTRIBUTING.md says how to add one; the compiler names the places that need it. */

import type { Errno } from "../abi/errno.ts";
import {
  type CAPABILITIES,
  type CMD,
  type KnownCmd,
  type OPEN_KINDS,
  type SERVICE_CMD,
  type SIDES,
  UNKNOWN_CMD,
} from "../abi/service.ts";
import type { CreateAttr, DriftPolicy } from "../maps/map.ts";
import type { ObjectFacts } from "../maps/object.ts";

/**
 * A reference to a map. Commands of a session use a descriptor; the operator's commands use an id, a name or a pin, as
 * bpftool does.
 */
export type Target =
  | { readonly by: "fd"; readonly fd: number }
  | { readonly by: "id"; readonly id: number }
  | { readonly by: "name"; readonly name: string }
  | { readonly by: "pinned"; readonly pathname: string };

/**
 * The sender and the time of a command. Session 0 is not a session: it stands for the operator's view and for the
 * service itself.
 */
export interface Origin {
  readonly session: number;
  readonly caller: string;
  /**
   * The sender's address, or uid and pid. Left out: the session's peer is the sender, or the service itself, or the
   * event was recorded by a release without peers.
   */
  readonly peer?: string | undefined;
  /** Microseconds since the epoch, stamped by the engine. Times ascend, except after a CLOCK_STEP event. */
  readonly timeUs: number;
  /** Only of a command that is part of a restore. */
  readonly restore?: RestoreNote;
  /** Only of the service's own imports: the kernel map has the written elements already. */
  readonly imported?: true;
  /** Only of a piece of a large command. */
  readonly part?: Part;
  /** Only of a refused command whose key or value was too large to keep: the bytes that it had. */
  readonly cut?: { readonly key?: number; readonly value?: number };
}

/**
 * The position of a piece within a large command: the number of elements (of memory commands, bytes) before it, and of
 * the whole. `seq`: the seq of the first piece's event; left out: this is the first piece.
 */
export interface Part {
  readonly at: number;
  readonly of: number;
  readonly seq?: number;
}

/** The caller and peer of a command. */
export type Who = Pick<Origin, "caller" | "peer">;

/** The reason of a restore: the map that is restored, the seq as of which, and the operator's words. */
export interface RestoreNote {
  readonly map: number;
  readonly at: number;
  readonly reason: string;
}

/** BPF_MAP_{LOOKUP,UPDATE,DELETE,LOOKUP_AND_DELETE}_ELEM, _GET_NEXT_KEY and _FREEZE. */
export interface ElementCommand {
  readonly cmd:
    | typeof CMD.BPF_MAP_LOOKUP_ELEM
    | typeof CMD.BPF_MAP_UPDATE_ELEM
    | typeof CMD.BPF_MAP_DELETE_ELEM
    | typeof CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM
    | typeof CMD.BPF_MAP_GET_NEXT_KEY
    | typeof CMD.BPF_MAP_FREEZE;
  readonly target: Target;
  /** null: the null pointer. Reading beyond a buffer's end is EFAULT. */
  readonly key: Buffer | null;
  /**
   * An input: the value. An output (a lookup's value, next_key): null for a buffer of the right size, or a buffer whose
   * length is the caller's.
   */
  readonly value: Buffer | null;
  readonly flags: bigint;
  /**
   * Set by resource routes: a key or value that is not as long as the map's is EINVAL. bpf(2) itself gets pointers
   * without a length.
   */
  readonly exact?: boolean;
}

export interface BatchCommand {
  readonly cmd:
    | typeof CMD.BPF_MAP_LOOKUP_BATCH
    | typeof CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH
    | typeof CMD.BPF_MAP_UPDATE_BATCH
    | typeof CMD.BPF_MAP_DELETE_BATCH;
  readonly target: Target;
  /** Keys and values end to end. Outputs are null or a buffer, as in ElementCommand.value. */
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly flags: bigint;
  /** As in ElementCommand, for each key and value. */
  readonly exact?: boolean;
  readonly attr: {
    readonly count: number;
    readonly elemFlags: bigint;
    readonly inBatch: Buffer | null;
    readonly outBatch: Buffer | null;
    /**
     * Set by the resource route of a delete batch: the number of keys given, of which those without an element are
     * skipped. The event has only the keys that had one.
     */
    readonly ifPresent?: number;
  };
}

export interface CreateCommand {
  readonly cmd: typeof CMD.BPF_MAP_CREATE;
  readonly attr: CreateAttr;
}

export interface PinCommand {
  readonly cmd: typeof CMD.BPF_OBJ_PIN;
  readonly target: Target;
  readonly attr: PathAttr & {
    /** Why the machine refuses the path; left out: nothing is in the way, or the machine was not asked. */
    readonly found?: Occupied;
  };
}

/**
 * EEXIST: the machine's bpffs has an entry at this path that the ledger does not have, or the mirror reserves the path.
 */
export interface Occupied {
  readonly errno: Errno;
  readonly detail: string;
}

export interface GetPinCommand {
  readonly cmd: typeof CMD.BPF_OBJ_GET;
  readonly attr: PathAttr & { readonly bpfFd: number };
}

interface PathAttr {
  /** null: the null pointer. */
  readonly pathname: string | null;
  readonly fileFlags: number;
  readonly pathFd: number;
}

export interface NextIdCommand {
  readonly cmd: typeof CMD.BPF_MAP_GET_NEXT_ID;
  readonly attr: { readonly startId: number; readonly openFlags: number };
}

export interface FdByIdCommand {
  readonly cmd: typeof CMD.BPF_MAP_GET_FD_BY_ID;
  readonly attr: { readonly mapId: number; readonly openFlags: number };
}

export interface BtfNextIdCommand {
  readonly cmd: typeof CMD.BPF_BTF_GET_NEXT_ID;
  readonly attr: { readonly startId: number; readonly openFlags: number; readonly fdByIdTokenFd: number };
}

export interface BtfFdByIdCommand {
  readonly cmd: typeof CMD.BPF_BTF_GET_FD_BY_ID;
  readonly attr: { readonly btfId: number; readonly openFlags: number; readonly fdByIdTokenFd: number };
}

export interface InfoCommand {
  readonly cmd: typeof CMD.BPF_OBJ_GET_INFO_BY_FD;
  readonly target: Target;
  /** The info buffer, whose contents are an input, too; null: info_len zeros. */
  readonly value: Buffer | null;
  readonly attr: { readonly infoLen: number };
}

/**
 * A command that is not on maps, or does not exist; or one whose attr was not read, because it is too large or has
 * bytes other than zero after its last field.
 */
export interface UnknownCommand {
  readonly cmd: typeof UNKNOWN_CMD;
  /** The number in the log: the caller's; UNKNOWN_CMD if no command has the name. */
  readonly number: number;
  /** The command as the caller spelt it. */
  readonly name: string;
  /** Why the attr of a known command was not read. */
  readonly fault?: { readonly errno: "E2BIG" | "EINVAL"; readonly detail: string };
}

export interface SessionOpenCommand {
  readonly cmd: typeof SERVICE_CMD.SESSION_OPEN;
  readonly attr: {
    readonly name: string;
    readonly ttlMs: number;
    /** Left out: all of them. */
    readonly capabilities?: readonly Capability[];
    /** Left out: the session lives by its TTL, or by an attached stream. */
    readonly process?: ClientProcess;
  };
}

/** The process with whose exit a session ends. The pid alone would not do: it may be given to a later process. */
export interface ClientProcess {
  /** In the service's pid namespace. */
  readonly pid: number;
  /** The effective uid when the session was opened. */
  readonly uid: number;
  /** Field 22 of /proc/PID/stat, clock ticks since the boot. */
  readonly startTime: string;
  /** /proc/sys/kernel/random/boot_id */
  readonly boot: string;
}

/** The capabilities that bpf(2) checks, <linux/capability.h>. */
export type Capability = (typeof CAPABILITIES)[number];

export interface SessionRenewCommand {
  readonly cmd: typeof SERVICE_CMD.SESSION_RENEW;
  /** null: the TTL with which the session was opened. */
  readonly attr: { readonly ttlMs: number | null };
}

/** The end of a session. Before it, each descriptor has a CLOSE event. */
export interface SessionEndCommand {
  readonly cmd: typeof SERVICE_CMD.SESSION_END;
  readonly attr: { readonly reason: EndReason };
}

export type EndReason = "ended by request" | "lease expired" | "attached stream broke" | "client process exited";

export interface CloseCommand {
  readonly cmd: typeof SERVICE_CMD.CLOSE;
  readonly fd: number;
  readonly attr: { readonly reason: EndReason | "close" };
}

export interface DupCommand {
  readonly cmd: typeof SERVICE_CMD.DUP;
  readonly fd: number;
}

/** Opens a descriptor that no map command of bpf(2) makes. */
export interface OpenCommand {
  readonly cmd: typeof SERVICE_CMD.OPEN;
  readonly attr: ObjectSpec & {
    /** BPF_F_RDONLY; left out: the descriptor is read-write. */
    readonly openFlags?: number;
    /** The facts of the machine's real object, or why there is none; left out: the machine was not asked. */
    readonly found?: Found;
    /** The real object, handed to the engine with the command; events do not have it. */
    readonly held?: HeldObject;
  };
}

/** The service's descriptors that keep a real object open. */
export interface HeldObject {
  readonly fd: number;
  /** Descriptors of objects that were opened with it, such as a socket's peer. */
  readonly others: readonly number[];
  /** A cgroup that was made for the object, and is removed with it. */
  readonly made: MadeCgroup | null;
}

export interface MadeCgroup {
  readonly path: string;
  /** Device and inode number, such as "30:1234". */
  readonly inode: string;
}

export type Found = { readonly facts: ObjectFacts } | { readonly errno: Errno; readonly detail: string };

/** Names an object, or describes the object to make. */
export type ObjectSpec = {
  readonly kind: OpenKind;
  /** The path of a file, a directory or a cgroup; a program's pin. */
  readonly path?: string;
  readonly pid?: number;
  /** A program's id. */
  readonly id?: number;
  readonly reuseport?: boolean;
  /** enum bpf_prog_type and bpf_attach_type of a program that exists in the ledger only. */
  readonly progType?: number;
  readonly expectedAttachType?: number;
};

export type OpenKind = (typeof OPEN_KINDS)[number];

/** BPF_BTF_LOAD */
export interface BtfLoadCommand {
  readonly cmd: typeof CMD.BPF_BTF_LOAD;
  /** The blob; null: the null pointer. */
  readonly value: Buffer | null;
  readonly attr: { readonly btfSize: number };
}

/** Reads or writes the memory that an mmap(2) of a map would show. */
export interface MemoryCommand {
  readonly cmd: typeof SERVICE_CMD.MEMORY_READ | typeof SERVICE_CMD.MEMORY_WRITE;
  readonly target: Target;
  /** The bytes to write; null for a read. */
  readonly value: Buffer | null;
  /** In bytes. A read stops at the end of the memory. A negative offset counts back from the end. */
  readonly attr: { readonly offset: number; readonly length: number };
}

/** The end of an object that no command has caused: a process has exited, or a cgroup was removed. */
export interface ObjectEndCommand {
  readonly cmd: typeof SERVICE_CMD.OBJECT_END;
  readonly attr: { readonly object: number };
}

/** The machine's network interfaces, after they have changed. */
export interface InterfacesCommand {
  readonly cmd: typeof SERVICE_CMD.INTERFACES;
  readonly attr: { readonly ifindexes: readonly number[] };
}

export interface PathCommand {
  readonly cmd: typeof SERVICE_CMD.UNLINK | typeof SERVICE_CMD.MKDIR | typeof SERVICE_CMD.RMDIR;
  readonly attr: {
    readonly pathname: string;
    /** Of MKDIR only; see PinCommand. */
    readonly found?: Occupied;
  };
}

/** A page of elements: at most `limit` elements after the position at which an earlier page ended. */
export interface ElementsCommand {
  readonly cmd: typeof SERVICE_CMD.MAP_ELEMENTS;
  readonly target: Target;
  readonly attr: { readonly after: Buffer | null; readonly limit: number };
}

/** A report of the mirror about an earlier event; the service is the caller. */
export interface MirrorCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_REFUSED | typeof SERVICE_CMD.MIRROR_RESYNC;
  readonly target: Target;
  readonly attr: { readonly operation: string; readonly errno: string; readonly detail: string };
}

/** The result of a comparison of a map with its kernel map; the service is the caller. */
export interface DriftCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_DRIFT;
  readonly target: Target;
  /**
   * `missing`: elements that only the ledger has; `changed`: with different values; `extra`: that only the kernel map
   * has.
   */
  readonly attr: Pick<DriftPolicy, "policy"> & {
    readonly missing: number;
    readonly changed: number;
    readonly extra: number;
    /** How many of all these elements the ledger has changed, too, while the kernel map did not follow. */
    readonly both_changed?: number;
    /** Further elements, which the kernel has evicted from an LRU map's kernel map. */
    readonly evicted?: number;
    /** The occasion, such as a start; left out: a comparison at the map's interval. */
    readonly at?: string;
    /** The first of these keys, in hex. */
    readonly first_keys?: readonly string[];
  };
}

export interface DriftPolicyCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_POLICY;
  readonly target: Target;
  readonly attr: DriftPolicy;
}

/**
 * A change on the host that the mirror has noticed; the service is the caller. A target with id 0: it concerns no
 * single map.
 */
export interface FoundCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_FOUND;
  readonly target: Target;
  readonly attr: {
    /** Such as "pin replaced", "pin gone", "off", "on". */
    readonly what: string;
    readonly path?: string;
    readonly kernel_id?: number;
    readonly detail: string;
  };
}

export interface FollowCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_FOLLOW;
  readonly target: Target;
  /** `kernel_id` and `was`: the kernel's ids of the new and the former map; `pin`: the path that names the new one. */
  readonly attr: { readonly kernel_id: number; readonly was: number; readonly pin: string };
}

export interface DecideCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_DECIDE;
  readonly target: Target;
  /** `keys`: in hex; null: all keys that differ. */
  readonly attr: { readonly take: (typeof SIDES)[number]; readonly keys: readonly string[] | null };
}

/** An operator's order about a kernel map that has no parameters. */
export interface KernelMapCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_RECREATE | typeof SERVICE_CMD.MIRROR_RELEASE;
  readonly target: Target;
  /** `was`: the kernel's id of the kernel map; null: there was none. */
  readonly attr: { readonly was: number | null };
}

export interface RepinCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_REPIN;
  readonly target: Target;
  /** `aside`: the path at which the object that was pinned there is pinned from now on; null: none was. */
  readonly attr: { readonly path: string; readonly aside: string | null };
}

export interface TakeOverCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_TAKE_OVER;
  /** The directory of pins, and the log that it belonged to. */
  readonly attr: { readonly directory: string; readonly owner: string };
}

interface LeaveCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_LEAVE;
  readonly attr: { readonly directory: string; readonly removed: readonly string[] };
}

/** The tokens file was read; the service is the caller. */
interface CallersCommand {
  readonly cmd: typeof SERVICE_CMD.CALLERS;
  readonly attr: {
    /** The file's lines, without hashes. */
    readonly callers: readonly { readonly name: string; readonly by: string; readonly scopes: readonly string[] }[];
  };
}

/** The files of the TCP port's certificates were read; the service is the caller. Keys are not recorded. */
export interface CertificatesCommand {
  readonly cmd: typeof SERVICE_CMD.CERTIFICATES;
  readonly attr: {
    readonly certificate: CertificateFacts;
    /** The authorities that clients' certificates must be signed by; null: clients need no certificate. */
    readonly client_authorities: readonly CertificateFacts[] | null;
  };
}

/** A certificate's names, serial number and SHA-256 (in hex), and times of RFC 3339. */
export interface CertificateFacts {
  readonly subject: string;
  readonly issuer: string;
  readonly serial: string;
  readonly not_before: string;
  readonly not_after: string;
  readonly sha256: string;
}

/** A request that none of the caller's scopes allows. */
export interface AccessRefusedCommand {
  readonly cmd: typeof SERVICE_CMD.ACCESS_REFUSED;
  readonly attr: {
    /** The scopes that would allow it, separated by commas; each of them would suffice. */
    readonly scope: string;
    /**
     * The caller's scopes of these kinds, none of which covers the map or pin; left out: the caller has no scope of
     * these kinds.
     */
    readonly has?: readonly string[];
    /** Method and path. */
    readonly request: string;
    /**
     * The number of the caller's requests that were refused before this one and have no event, counted since the
     * caller's last event of this kind.
     */
    readonly more: number;
  };
}

/** A map was freed but its kernel map lives on; the service is the caller. */
export interface FreedCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_FREED;
  readonly attr: {
    /** The freed map's id. */
    readonly map: number;
    /** The kernel's id in this boot. */
    readonly kernel_id: number;
    readonly boot: string;
    readonly detail: string;
  };
}

/** Work that an earlier event has deferred, done in part; the service is the caller. */
export interface FreeDeferredCommand {
  readonly cmd: typeof SERVICE_CMD.FREE_DEFERRED;
  readonly attr: {
    /** The freed map whose elements drop their references. */
    readonly map?: number;
    /** The object together with which elements are deleted. */
    readonly object?: number;
    /** The map in which elements of removed interfaces are looked for. */
    readonly interfaces?: number;
    /** The most elements to work on. */
    readonly elements: number;
  };
}

/** Events that were written to an archive, and are removed from the log. */
export interface ArchiveCommand {
  readonly cmd: typeof SERVICE_CMD.ARCHIVE;
  readonly attr: {
    /** As the operator gave it: a seq or a time. */
    readonly before: string;
    /** The seqs of the first and the last archived event. */
    readonly first: number;
    readonly through: number;
    /** The time of the event `through`. */
    readonly time_us: number;
    readonly directory: string;
    readonly segments: readonly { readonly name: string; readonly sha256: string }[];
    /** The snapshot of the state after the event `through`. */
    readonly state: { readonly name: string; readonly sha256: string };
  };
}

/** The service has signed a checkpoint; it is the caller. */
export interface CheckpointCommand {
  readonly cmd: typeof SERVICE_CMD.CHECKPOINT;
  readonly attr: {
    /** The tree's size: it has the events up to this seq. */
    readonly size: number;
    /** The ledger's facts, recorded here so that the tree proves them. */
    readonly log: string;
    readonly possible_cpus: string;
    readonly life: string;
    /** The signed note. */
    readonly note: string;
  };
}

/** The log's tree is built again from all events before this one. */
export interface TreeBeginCommand {
  readonly cmd: typeof SERVICE_CMD.TREE_BEGIN;
  readonly attr: {
    /** Why the former tree could not be signed any more. */
    readonly reason: string;
    /** The note of the newest checkpoint that is known to have been signed; null: none is known. */
    readonly signed: string | null;
    /** Whether the log has the events of that checkpoint, so that the new tree continues it. */
    readonly continues: boolean;
    /**
     * The suffix of the log's name in checkpoints from now on; "": none. It is a new one if the tree does not continue
     * the old one.
     */
    readonly branch: string;
  };
}

/** The first event of a ledger that was restored from a backup. */
export interface BackupRestoreCommand {
  readonly cmd: typeof SERVICE_CMD.BACKUP_RESTORE;
  readonly attr: {
    /** The ledger's life, and the life of the ledger that was backed up. */
    readonly life: string;
    readonly was: string;
    /** The note of the newest checkpoint in the backup, which this log continues; null: there is none. */
    readonly continues: string | null;
    /** The verifier key of its signer. */
    readonly signer: string | null;
    /** The suffix of the log's name in checkpoints from now on: two ledgers must not sign under the same name. */
    readonly branch: string;
  };
}

/** The log's key is replaced; the log's name is kept. */
export interface KeyRotateCommand {
  readonly cmd: typeof SERVICE_CMD.KEY_ROTATE;
  readonly attr: {
    /** The verifier key of the former key. */
    readonly signer: string;
    /** The verifier key of the new key, which signs checkpoints from this event on. */
    readonly vkey: string;
  };
}

/** The machine's clock was put back; the service is the caller. */
export interface ClockStepCommand {
  readonly cmd: typeof SERVICE_CMD.CLOCK_STEP;
  readonly attr: {
    /** The time of the event before this one, and this event's time, both in RFC 3339. */
    readonly was: string;
    readonly is: string;
  };
}

export type Action =
  | ElementCommand
  | BatchCommand
  | CreateCommand
  | PinCommand
  | GetPinCommand
  | NextIdCommand
  | FdByIdCommand
  | InfoCommand
  | UnknownCommand
  | SessionOpenCommand
  | SessionRenewCommand
  | SessionEndCommand
  | CloseCommand
  | DupCommand
  | OpenCommand
  | BtfLoadCommand
  | BtfNextIdCommand
  | BtfFdByIdCommand
  | MemoryCommand
  | ObjectEndCommand
  | InterfacesCommand
  | PathCommand
  | ElementsCommand
  | MirrorCommand
  | DriftCommand
  | DriftPolicyCommand
  | FoundCommand
  | FollowCommand
  | DecideCommand
  | KernelMapCommand
  | RepinCommand
  | TakeOverCommand
  | LeaveCommand
  | FreedCommand
  | FreeDeferredCommand
  | AccessRefusedCommand
  | CallersCommand
  | CertificatesCommand
  | ArchiveCommand
  | CheckpointCommand
  | TreeBeginCommand
  | BackupRestoreCommand
  | KeyRotateCommand
  | ClockStepCommand;

export type Command = Origin & Action;

/** The number of a command in the log: of an unknown one, the caller's. */
export function cmdNumber(action: Action): number {
  return action.cmd === UNKNOWN_CMD ? action.number : action.cmd;
}

/** Commands that have no type above: there are none. */
type Untyped = Exclude<KnownCmd, Exclude<Action, UnknownCommand>["cmd"]>;
true satisfies Untyped extends never ? true : Untyped;
