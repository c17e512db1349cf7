import type { Errno } from "../abi/errno.ts";
import type { CAPABILITIES, CMD, OPEN_KINDS, SERVICE_CMD, SIDES } from "../abi/service.ts";
import type { CreateAttr, DriftPolicy } from "../maps/map.ts";
import type { ObjectFacts } from "../maps/object.ts";

/**
 * The map that a command means. A session's commands name a descriptor of its own; the operator's name the map, as
 * bpftool does: by id, by name or by pin.
 */
export type Target =
  | { readonly by: "fd"; readonly fd: number }
  | { readonly by: "id"; readonly id: number }
  | { readonly by: "name"; readonly name: string }
  | { readonly by: "pinned"; readonly pathname: string };

/** Who sent a command, and when. Session 0 is no session: the operator's view, or the service itself. */
export interface Origin {
  readonly session: number;
  readonly caller: string;
  /**
   * From where he sent it: an address, or uid and pid. Left out: the session says it, or the service sent it itself. Events from
   * before there were peers have none.
   */
  readonly peer?: string | undefined;
  /** Microseconds since the epoch; the engine stamps it, never stepping back. */
  readonly timeUs: number;
  /** Of a command that is part of a restore. */
  readonly restore?: RestoreNote;
  /** Of a command of the service's own: what it writes was found in the kernel map, which has it already. */
  readonly imported?: true;
  /** Of a piece of a large command. */
  readonly part?: Part;
  /** Of a refused command whose key or value was too large to be kept: how many bytes it had. */
  readonly cut?: { readonly key?: number; readonly value?: number };
}

/**
 * Which part of a command a piece of it is: elements (of reads and stores of memory, bytes) before it, and of how many. `seq`: of the
 * first piece's event; left out: it is the first.
 */
export interface Part {
  readonly at: number;
  readonly of: number;
  readonly seq?: number;
}

/** Whose a command is, and from where it came. */
export type Who = Pick<Origin, "caller" | "peer">;

/** What a restore was for: which map, as of which event, and why. */
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
  /** null is the null pointer. A buffer ends where its bytes end: reading on faults. */
  readonly key: Buffer | null;
  /**
   * Where the kernel reads: the value. Where it writes (a lookup's value, next_key): null for as much room as it
   * takes, or a buffer of the room there is.
   */
  readonly value: Buffer | null;
  readonly flags: bigint;
  /** The resource routes': a key or value of another length than the map's is EINVAL. bpf(2) itself cannot tell. */
  readonly exact?: boolean;
}

/** The four batch commands. */
export interface BatchCommand {
  readonly cmd:
    | typeof CMD.BPF_MAP_LOOKUP_BATCH
    | typeof CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH
    | typeof CMD.BPF_MAP_UPDATE_BATCH
    | typeof CMD.BPF_MAP_DELETE_BATCH;
  readonly target: Target;
  /** Keys and values end to end; for those that are answered as for ElementCommand.value. */
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly flags: bigint;
  /** As in ElementCommand, of each key and value. */
  readonly exact?: boolean;
  readonly attr: {
    readonly count: number;
    readonly elemFlags: bigint;
    readonly inBatch: Buffer | null;
    readonly outBatch: Buffer | null;
    /**
     * Of a delete batch of the resource routes: how many keys were given, of which those without an element are passed over. The
     * event has those alone that had one.
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
    /** The machine's refusal of the path; omitted if nothing is in the way there, or if nobody has asked the machine. */
    readonly found?: Occupied;
  };
}

/** EEXIST: the machine's bpffs has an entry at the path that the ledger does not have, or the mirror reserves the path. */
export interface Occupied {
  readonly errno: Errno;
  readonly detail: string;
}

export interface GetPinCommand {
  readonly cmd: typeof CMD.BPF_OBJ_GET;
  readonly attr: PathAttr & { readonly bpfFd: number };
}

interface PathAttr {
  /** null is the null pointer. */
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

export interface InfoCommand {
  readonly cmd: typeof CMD.BPF_OBJ_GET_INFO_BY_FD;
  readonly target: Target;
  /** The info buffer, which is input, too; null for one of info_len zeros. */
  readonly value: Buffer | null;
  readonly attr: { readonly infoLen: number };
}

/** A bpf command that is not about maps, or none at all; or one whose attr has something behind its last field. */
export interface UnknownCommand {
  readonly cmd: number;
  readonly unknown: true;
  /** As the caller wrote it. */
  readonly name: string;
  /** Why its attr was not looked at, where it might have been known. */
  readonly fault?: { readonly errno: "E2BIG" | "EINVAL"; readonly detail: string };
}

export interface SessionOpenCommand {
  readonly cmd: typeof SERVICE_CMD.SESSION_OPEN;
  readonly attr: {
    readonly name: string;
    readonly ttlMs: number;
    /** Left out: all of them. */
    readonly capabilities?: readonly Capability[];
    /** Left out: it lives by its TTL, or by a stream. */
    readonly process?: ClientProcess;
  };
}

/** The process that a session lives by: a pid alone may be another's later. */
export interface ClientProcess {
  /** As the service's pid namespace has it. */
  readonly pid: number;
  /** Its effective one when the session was opened. */
  readonly uid: number;
  /** Field 22 of /proc/PID/stat, clock ticks since the boot. */
  readonly startTime: string;
  /** /proc/sys/kernel/random/boot_id */
  readonly boot: string;
}

/** What bpf(2) asks of a process, <linux/capability.h>. */
export type Capability = (typeof CAPABILITIES)[number];

export interface SessionRenewCommand {
  readonly cmd: typeof SERVICE_CMD.SESSION_RENEW;
  /** null: the lease it was born with. */
  readonly attr: { readonly ttlMs: number | null };
}

/** The end of a session; its descriptors are closed first, each by a CLOSE of its own. */
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

/** A descriptor of what no bpf command on maps makes. */
export interface OpenCommand {
  readonly cmd: typeof SERVICE_CMD.OPEN;
  readonly attr: ObjectSpec & {
    /** BPF_F_RDONLY, or left out: the descriptor is read-write. */
    readonly openFlags?: number;
    /** What the machine says of the real object, or why there is none; left out: nobody has asked it. */
    readonly found?: Found;
    /** The real object, on its way to the engine: no event has it. */
    readonly held?: HeldObject;
  };
}

/** What a real object is held by: descriptors of the service. */
export interface HeldObject {
  readonly fd: number;
  /** Of what was opened with it: a peer, say. */
  readonly others: readonly number[];
  /** The cgroup that was made for it, and goes with it. */
  readonly made: MadeCgroup | null;
}

export interface MadeCgroup {
  readonly path: string;
  /** Device and inode number, as in "30:1234". */
  readonly inode: string;
}

export type Found = { readonly facts: ObjectFacts } | { readonly errno: Errno; readonly detail: string };

/** What names an object, or says what kind of one to make. */
export interface ObjectSpec {
  readonly kind: OpenKind;
  /** Of a file, a directory or a cgroup; a program's pin. */
  readonly path?: string;
  readonly pid?: number;
  /** A program's id. */
  readonly id?: number;
  readonly reuseport?: boolean;
  /** enum bpf_prog_type and bpf_attach_type, of a program that only the ledger knows. */
  readonly progType?: number;
  readonly expectedAttachType?: number;
}

export type OpenKind = (typeof OPEN_KINDS)[number];

/** BPF_BTF_LOAD */
export interface BtfLoadCommand {
  readonly cmd: typeof CMD.BPF_BTF_LOAD;
  /** The blob; null is the null pointer. */
  readonly value: Buffer | null;
  readonly attr: { readonly btfSize: number };
}

/** pread(2) and pwrite(2), so to speak, on the memory that mmap(2) of a map would give. */
export interface MemoryCommand {
  readonly cmd: typeof SERVICE_CMD.MEMORY_READ | typeof SERVICE_CMD.MEMORY_WRITE;
  readonly target: Target;
  /** What is stored; null where it is read. */
  readonly value: Buffer | null;
  /** A read ends where the memory does; from a negative offset on it is its last bytes. */
  readonly attr: { readonly offset: number; readonly length: number };
}

/** What became of objects beside all commands: a process has exited, a cgroup was removed. */
export interface ObjectEndCommand {
  readonly cmd: typeof SERVICE_CMD.OBJECT_END;
  readonly attr: { readonly object: number };
}

/** The machine's network interfaces, where they are others than before. */
export interface InterfacesCommand {
  readonly cmd: typeof SERVICE_CMD.INTERFACES;
  readonly attr: { readonly ifindexes: readonly number[] };
}

export interface PathCommand {
  readonly cmd: typeof SERVICE_CMD.UNLINK | typeof SERVICE_CMD.MKDIR | typeof SERVICE_CMD.RMDIR;
  readonly attr: {
    readonly pathname: string;
    /** MKDIR's alone; as PinCommand's. */
    readonly found?: Occupied;
  };
}

/** A page of elements: at most `limit` after the position that an earlier page gave. */
export interface ElementsCommand {
  readonly cmd: typeof SERVICE_CMD.MAP_ELEMENTS;
  readonly target: Target;
  readonly attr: { readonly after: Buffer | null; readonly limit: number };
}

/** What came back from the mirror about an earlier event; the service is its caller. */
export interface MirrorCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_REFUSED | typeof SERVICE_CMD.MIRROR_RESYNC;
  readonly target: Target;
  readonly attr: { readonly operation: string; readonly errno: string; readonly detail: string };
}

/** What a comparison of a map with its kernel map has found; the service is its caller. */
export interface DriftCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_DRIFT;
  readonly target: Target;
  /** Elements in the ledger alone, in both with other values, in the kernel alone. */
  readonly attr: Pick<DriftPolicy, "policy"> & {
    readonly missing: number;
    readonly changed: number;
    readonly extra: number;
    /** Of these: changed in the ledger, too, since the kernel map had the ledger's value last. */
    readonly both_changed?: number;
    /** Beside these: elements that an LRU map's kernel map has let go. */
    readonly evicted?: number;
    /** When it was found: at a start, say. Left out: by a comparison at the map's interval. */
    readonly at?: string;
    /** The first of them, in hex. */
    readonly first_keys?: readonly string[];
  };
}

export interface DriftPolicyCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_POLICY;
  readonly target: Target;
  readonly attr: DriftPolicy;
}

/** What the mirror noticed on the host; the service is its caller. A target of id 0: it concerns no single map. */
export interface FoundCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_FOUND;
  readonly target: Target;
  readonly attr: {
    /** As in "pin replaced", "pin gone", "off", "on". */
    readonly what: string;
    readonly path?: string;
    readonly kernel_id?: number;
    readonly detail: string;
  };
}

/** A map follows another kernel map from now on. */
export interface FollowCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_FOLLOW;
  readonly target: Target;
  /** The kernel's ids; `pin`: the path that names the new one. */
  readonly attr: { readonly kernel_id: number; readonly was: number; readonly pin: string };
}

export interface DecideCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_DECIDE;
  readonly target: Target;
  /** `keys`: in hex; null: all that differ. */
  readonly attr: { readonly take: (typeof SIDES)[number]; readonly keys: readonly string[] | null };
}

/** What operators order about a map's kernel map, and say no more. */
export interface KernelMapCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_RECREATE | typeof SERVICE_CMD.MIRROR_RELEASE;
  readonly target: Target;
  /** `was`: the kernel's id of the map that is meant; null: there was none. */
  readonly attr: { readonly was: number | null };
}

export interface RepinCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_REPIN;
  readonly target: Target;
  /** `aside`: where the object that was pinned there is pinned from now on; null: there was none. */
  readonly attr: { readonly path: string; readonly aside: string | null };
}

export interface TakeOverCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_TAKE_OVER;
  /** The directory of pins, and whose it was. */
  readonly attr: { readonly directory: string; readonly owner: string };
}

interface LeaveCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_LEAVE;
  readonly attr: { readonly directory: string; readonly removed: readonly string[] };
}

/** The tokens' file was read; the service is its caller. */
interface CallersCommand {
  readonly cmd: typeof SERVICE_CMD.CALLERS;
  readonly attr: {
    /** A line each, without hashes. */
    readonly callers: readonly { readonly name: string; readonly by: string; readonly scopes: readonly string[] }[];
  };
}

/** The files of the TCP port's certificates were read; the service is its caller. Nothing of a key is in it. */
export interface CertificatesCommand {
  readonly cmd: typeof SERVICE_CMD.CERTIFICATES;
  readonly attr: {
    readonly certificate: CertificateFacts;
    /** Those that sign clients' certificates; null: none is asked for. */
    readonly client_authorities: readonly CertificateFacts[] | null;
  };
}

/** Of a certificate: names, serial number and SHA-256 in hex, times of RFC 3339. */
export interface CertificateFacts {
  readonly subject: string;
  readonly issuer: string;
  readonly serial: string;
  readonly not_before: string;
  readonly not_after: string;
  readonly sha256: string;
}

/** A caller asked for what none of his scopes allows. */
export interface AccessRefusedCommand {
  readonly cmd: typeof SERVICE_CMD.ACCESS_REFUSED;
  readonly attr: {
    /** Any of them would have done, with commas between them. */
    readonly scope: string;
    /** The scopes of the kind that he has, none of which covers what he asked for; left out: he has none of those in `scope` at all. */
    readonly has?: readonly string[];
    /** Method and path. */
    readonly request: string;
    /** How many of his requests were refused since the event before this one, and have none. */
    readonly more: number;
  };
}

/** A map is freed, its kernel map is not; the service is its caller. */
export interface FreedCommand {
  readonly cmd: typeof SERVICE_CMD.MIRROR_FREED;
  readonly attr: {
    /** The freed map's id. */
    readonly map: number;
    /** The kernel's id, of this boot. */
    readonly kernel_id: number;
    readonly boot: string;
    readonly detail: string;
  };
}

/** A part of what went with a map or an object, and was too much for one moment; the service is its caller. */
export interface FreeDeferredCommand {
  readonly cmd: typeof SERVICE_CMD.FREE_DEFERRED;
  readonly attr: {
    /** The freed map, whose elements let go of what they refer to. */
    readonly map?: number;
    /** The object, with which elements go. */
    readonly object?: number;
    /** The map in which elements of interfaces that are gone are looked for. */
    readonly interfaces?: number;
    /** How many elements, at most. */
    readonly elements: number;
  };
}

/** Events that have been written to an archive, and go from the log. */
export interface ArchiveCommand {
  readonly cmd: typeof SERVICE_CMD.ARCHIVE;
  readonly attr: {
    /** As it was asked for: a seq or a time. */
    readonly before: string;
    /** The first event and the last. */
    readonly first: number;
    readonly through: number;
    /** When that one was. */
    readonly time_us: number;
    readonly directory: string;
    readonly segments: readonly { readonly name: string; readonly sha256: string }[];
    /** The snapshot of the state right after `through`. */
    readonly state: { readonly name: string; readonly sha256: string };
  };
}

/** The service has signed a checkpoint; it is the caller. */
export interface CheckpointCommand {
  readonly cmd: typeof SERVICE_CMD.CHECKPOINT;
  readonly attr: {
    /** Events that it has: those up to this seq. */
    readonly size: number;
    /** The ledger's facts, so that the tree vouches for them. */
    readonly log: string;
    readonly possible_cpus: string;
    readonly life: string;
    /** The signed note. */
    readonly note: string;
  };
}

/** The log's tree is built anew from all events before this one. */
export interface TreeBeginCommand {
  readonly cmd: typeof SERVICE_CMD.TREE_BEGIN;
  readonly attr: {
    /** Why nothing was signed any more. */
    readonly reason: string;
    /** The newest checkpoint that is known to have been signed: its note; null: none is known. */
    readonly signed: string | null;
    /** Whether the events are those of that checkpoint, so that the new tree continues it. */
    readonly continues: boolean;
    /** Set behind the log's name in its checkpoints from now on; "": nothing. Another one if the tree does not continue. */
    readonly branch: string;
  };
}

/** The first event of a ledger that was made from a backup. */
export interface BackupRestoreCommand {
  readonly cmd: typeof SERVICE_CMD.BACKUP_RESTORE;
  readonly attr: {
    /** The ledger's life, and that of the ledger that the backup is of. */
    readonly life: string;
    readonly was: string;
    /** The newest checkpoint in the backup, which this log continues: its note; null: there is none. */
    readonly continues: string | null;
    /** Who signed it. */
    readonly signer: string | null;
    /** Set behind the log's name in its checkpoints from now on: two ledgers must not sign under one. */
    readonly branch: string;
  };
}

/** Another key signs the log's checkpoints, under the name that the log has. */
export interface KeyRotateCommand {
  readonly cmd: typeof SERVICE_CMD.KEY_ROTATE;
  readonly attr: {
    /** The verifier key of the key that signed until now. */
    readonly signer: string;
    /** The verifier key of the key that signs checkpoints that have this event. */
    readonly vkey: string;
  };
}

/** The machine's clock was put back; the service is the caller. */
export interface ClockStepCommand {
  readonly cmd: typeof SERVICE_CMD.CLOCK_STEP;
  readonly attr: {
    /** The time of the event before this one, and the time that it was by then: this event's. RFC 3339. */
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
