/**
 * The log's `attr` column: every part of a command that has no column of its own, as JSON in the names of union
 * bpf_attr. Bytes are in hex, u64 are decimal strings. A command without such parts has null. `attrText` writes,
 * `readCommand` reads.
 *
 * Whatever a decision depended on is here, too: the size of the buffer that the caller gave for an answer
 * (`value_room`, `key_room`), and that a route refuses a key or a value of another length (`exact`). A replay elsewhere
 * then gets the same answer.
 */

import { CREATE_FIELDS, type FieldKind, namedAttr, readAttr } from "../abi/attr.ts";
import { OBJ_NAME_LEN } from "../abi/bpf.ts";
import { CMD, UNKNOWN_CMD } from "../abi/service.ts";
import type { MirrorShape, OnReplace } from "../maps/map.ts";
import type {
  Action,
  Capability,
  ClientProcess,
  Command,
  EndReason,
  ObjectSpec,
  Occupied,
  OpenCommand,
  Origin,
  Part,
  RestoreNote,
  SessionOpenCommand,
  Target,
} from "../syscall/command.ts";

export function attrText(
  command: Action & Pick<Origin, "restore" | "imported" | "part" | "cut" | "peer">,
): string | null {
  const text = commandText(command);
  const { peer } = command;
  if (peer === undefined) return text;
  const more = `"peer":${JSON.stringify(peer)}}`;
  return text === null || text === "{}" ? `{${more}` : `${text.slice(0, -1)},${more}`;
}

/** The `attr` text without the caller's peer. */
export function commandText(command: Action & Pick<Origin, "restore" | "imported" | "part" | "cut">): string | null {
  const attr = attrOf(command);
  const { restore, imported, part, cut } = command;
  if (restore === undefined && imported === undefined && part === undefined && cut === undefined)
    return attr === null ? null : JSON.stringify(attr);
  return JSON.stringify({ ...attr, restore, imported, part, cut });
}

type Attr = Record<string, unknown>;

function attrOf(command: Action): Attr | null {
  if (command.cmd === UNKNOWN_CMD) return { name: command.name, fault: command.fault };
  switch (command.cmd) {
    case CMD.BPF_MAP_CREATE: {
      const { attr } = command;
      return {
        // The field's kind chooses both the function and the value's type, which the compiler cannot pair: `never` fits each.
        ...namedAttr(CREATE_FIELDS, attr, (kind, value) => SAY[kind](value as never)),
        adopted: attr.adopted,
        adopted_pin: attr.adoptedPin,
        on_replace: attr.onReplace,
        mirror_shape: attr.mirrorShape,
      };
    }
    case CMD.BPF_MAP_LOOKUP_BATCH:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case CMD.BPF_MAP_UPDATE_BATCH:
    case CMD.BPF_MAP_DELETE_BATCH:
      return {
        count: command.attr.count,
        elem_flags: String(command.attr.elemFlags),
        in_batch: hex(command.attr.inBatch),
        out_batch: hex(command.attr.outBatch),
        if_present: command.attr.ifPresent,
      };
    case CMD.BPF_OBJ_PIN: {
      const { pathname, fileFlags, pathFd, found } = command.attr;
      return { pathname, file_flags: fileFlags, path_fd: pathFd, found };
    }
    case CMD.BPF_OBJ_GET: {
      const { pathname, fileFlags, pathFd, bpfFd } = command.attr;
      return { pathname, file_flags: fileFlags, path_fd: pathFd, bpf_fd: bpfFd };
    }
    case CMD.BPF_MAP_GET_NEXT_ID:
      return { start_id: command.attr.startId, open_flags: command.attr.openFlags };
    case CMD.BPF_MAP_GET_FD_BY_ID:
      return { map_id: command.attr.mapId, open_flags: command.attr.openFlags };
    case CMD.BPF_BTF_GET_NEXT_ID: {
      const { startId, openFlags, fdByIdTokenFd } = command.attr;
      return { start_id: startId, open_flags: openFlags, fd_by_id_token_fd: fdByIdTokenFd };
    }
    case CMD.BPF_BTF_GET_FD_BY_ID: {
      const { btfId, openFlags, fdByIdTokenFd } = command.attr;
      return { btf_id: btfId, open_flags: openFlags, fd_by_id_token_fd: fdByIdTokenFd };
    }
    case CMD.BPF_OBJ_GET_INFO_BY_FD:
      return { info_len: command.attr.infoLen };
    case CMD.SESSION_OPEN: {
      const { name, ttlMs, capabilities, process } = command.attr;
      return { name, ttl_ms: ttlMs, capabilities, process: process && processAttr(process) };
    }
    case CMD.SESSION_RENEW:
      return { ttl_ms: command.attr.ttlMs };
    case CMD.SESSION_END:
    case CMD.CLOSE:
      return { reason: command.attr.reason };
    case CMD.OPEN:
      return openAttr(command.attr);
    case CMD.BPF_BTF_LOAD:
      return { btf_size: command.attr.btfSize };
    case CMD.MEMORY_READ:
    case CMD.MEMORY_WRITE:
    case CMD.OBJECT_END:
    case CMD.INTERFACES:
    case CMD.ARCHIVE:
    case CMD.CHECKPOINT:
    case CMD.TREE_BEGIN:
    case CMD.BACKUP_RESTORE:
    case CMD.KEY_ROTATE:
    case CMD.CLOCK_STEP:
      return { ...command.attr };
    case CMD.UNLINK:
    case CMD.MKDIR:
    case CMD.RMDIR:
      return { pathname: command.attr.pathname, found: command.attr.found };
    case CMD.MAP_ELEMENTS:
      return { after: hex(command.attr.after), limit: command.attr.limit };
    case CMD.MIRROR_REFUSED:
    case CMD.MIRROR_RESYNC:
    case CMD.MIRROR_DRIFT:
    case CMD.MIRROR_FOUND:
    case CMD.MIRROR_FOLLOW:
    case CMD.MIRROR_DECIDE:
    case CMD.MIRROR_RECREATE:
    case CMD.MIRROR_TAKE_OVER:
    case CMD.MIRROR_RELEASE:
    case CMD.MIRROR_REPIN:
    case CMD.MIRROR_LEAVE:
    case CMD.MIRROR_FREED:
    case CMD.FREE_DEFERRED:
    case CMD.ACCESS_REFUSED:
    case CMD.CALLERS:
    case CMD.CERTIFICATES:
      return { ...command.attr };
    case CMD.MIRROR_POLICY:
      return { policy: command.attr.policy, interval_ms: command.attr.intervalMs };
    case CMD.BPF_MAP_LOOKUP_ELEM:
    case CMD.BPF_MAP_UPDATE_ELEM:
    case CMD.BPF_MAP_DELETE_ELEM:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
    case CMD.BPF_MAP_GET_NEXT_KEY:
    case CMD.BPF_MAP_FREEZE:
    case CMD.DUP:
      return null;
  }
}

/** The columns that `readCommand` makes a command of. */
export interface CommandParts {
  readonly session: number;
  readonly caller: string;
  readonly timeUs: number;
  readonly cmd: number;
  readonly target: Target | null;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly flags: bigint;
  readonly exact: boolean;
  /** The text that `attrText` wrote. */
  readonly attr: string | null;
}

/** Makes a command of its columns: the inverse of `attrText`. */
export function readCommand(parts: CommandParts): Command {
  const { session, caller, timeUs, key, value, flags, exact } = parts;
  const target = parts.target as Target;
  const cmd = parts.cmd as Command["cmd"];
  const attr = parts.attr === null ? {} : JSON.parse(parts.attr);
  const restore = attr.restore as RestoreNote | undefined;
  const peer = typeof attr.peer === "string" ? attr.peer : undefined;
  const origin = {
    session,
    caller,
    ...(peer === undefined ? {} : { peer }),
    timeUs,
    ...(restore === undefined ? {} : { restore }),
    ...(attr.imported === true ? { imported: true as const } : {}),
    ...(attr.part === undefined ? {} : { part: attr.part as Part }),
    ...(attr.cut === undefined ? {} : { cut: attr.cut as NonNullable<Origin["cut"]> }),
  };
  if (attr.fault !== undefined)
    return { ...origin, cmd: UNKNOWN_CMD, number: parts.cmd, name: attr.name, fault: attr.fault };
  switch (cmd) {
    case CMD.BPF_MAP_LOOKUP_ELEM:
    case CMD.BPF_MAP_UPDATE_ELEM:
    case CMD.BPF_MAP_DELETE_ELEM:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
    case CMD.BPF_MAP_GET_NEXT_KEY:
    case CMD.BPF_MAP_FREEZE:
      if (restore !== undefined || peer !== undefined || attr.cut !== undefined)
        return { ...origin, cmd, target, key, value, flags, exact };
      return { session, caller, timeUs, cmd, target, key, value, flags, exact };
    case CMD.BPF_MAP_LOOKUP_BATCH:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case CMD.BPF_MAP_UPDATE_BATCH:
    case CMD.BPF_MAP_DELETE_BATCH: {
      const elemFlags = BigInt(attr.elem_flags);
      const batch = { count: attr.count, elemFlags, inBatch: bytes(attr.in_batch), outBatch: bytes(attr.out_batch) };
      if (attr.if_present !== undefined) {
        const ifPresent = attr.if_present as number;
        return { ...origin, cmd, target, key, value, flags, exact, attr: { ...batch, ifPresent } };
      }
      return { ...origin, cmd, target, key, value, flags, exact, attr: batch };
    }
    case CMD.BPF_MAP_CREATE:
      return {
        ...origin,
        cmd,
        attr: {
          // As above: the kind chooses the function for the text.
          ...readAttr(CREATE_FIELDS, ({ name, kind }) => READ[kind](attr[name] as never)),
          ...(attr.adopted === undefined ? {} : { adopted: attr.adopted as number }),
          ...(attr.adopted_pin === undefined ? {} : { adoptedPin: attr.adopted_pin as string }),
          ...(attr.on_replace === undefined ? {} : { onReplace: attr.on_replace as OnReplace }),
          ...(attr.mirror_shape === undefined ? {} : { mirrorShape: attr.mirror_shape as MirrorShape }),
        },
      };
    case CMD.BPF_OBJ_PIN: {
      const { pathname, file_flags: fileFlags, path_fd: pathFd } = attr;
      return { ...origin, cmd, target, attr: { pathname, fileFlags, pathFd, ...foundAttr(attr) } };
    }
    case CMD.BPF_OBJ_GET: {
      const { pathname, file_flags: fileFlags, path_fd: pathFd, bpf_fd: bpfFd } = attr;
      return { ...origin, cmd, attr: { pathname, fileFlags, pathFd, bpfFd } };
    }
    case CMD.BPF_MAP_GET_NEXT_ID:
      return { ...origin, cmd, attr: { startId: attr.start_id, openFlags: attr.open_flags } };
    case CMD.BPF_MAP_GET_FD_BY_ID:
      return { ...origin, cmd, attr: { mapId: attr.map_id, openFlags: attr.open_flags } };
    case CMD.BPF_BTF_GET_NEXT_ID: {
      const { start_id: startId, open_flags: openFlags, fd_by_id_token_fd: fdByIdTokenFd } = attr;
      // Up to version 0.1.0 mapledger did not have the command: such an event has its name alone.
      if (startId === undefined) return { ...origin, cmd: UNKNOWN_CMD, number: parts.cmd, name: attr.name };
      return { ...origin, cmd, attr: { startId, openFlags, fdByIdTokenFd } };
    }
    case CMD.BPF_BTF_GET_FD_BY_ID: {
      const { btf_id: btfId, open_flags: openFlags, fd_by_id_token_fd: fdByIdTokenFd } = attr;
      if (btfId === undefined) return { ...origin, cmd: UNKNOWN_CMD, number: parts.cmd, name: attr.name };
      return { ...origin, cmd, attr: { btfId, openFlags, fdByIdTokenFd } };
    }
    case CMD.BPF_OBJ_GET_INFO_BY_FD:
      return { ...origin, cmd, target, value, attr: { infoLen: attr.info_len } };
    case CMD.SESSION_OPEN:
      return { ...origin, cmd, attr: sessionAttr(attr) };
    case CMD.SESSION_RENEW:
      return { ...origin, cmd, attr: { ttlMs: attr.ttl_ms } };
    case CMD.SESSION_END:
      return { ...origin, cmd, attr: { reason: attr.reason as EndReason } };
    case CMD.CLOSE:
      return { ...origin, cmd, fd: fdOf(target), attr: { reason: attr.reason as EndReason | "close" } };
    case CMD.DUP:
      return { ...origin, cmd, fd: fdOf(target) };
    case CMD.OPEN:
      return { ...origin, cmd, attr: readOpenAttr(attr) };
    case CMD.BPF_BTF_LOAD:
      return { ...origin, cmd, value, attr: { btfSize: attr.btf_size } };
    case CMD.MEMORY_READ:
    case CMD.MEMORY_WRITE:
      return { ...origin, cmd, target, value, attr: { offset: attr.offset, length: attr.length } };
    case CMD.OBJECT_END:
      return { ...origin, cmd, attr: { object: attr.object } };
    case CMD.INTERFACES:
      return { ...origin, cmd, attr: { ifindexes: attr.ifindexes as readonly number[] } };
    case CMD.ARCHIVE:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.CHECKPOINT:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.TREE_BEGIN:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.BACKUP_RESTORE:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.KEY_ROTATE:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.CLOCK_STEP:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.UNLINK:
    case CMD.MKDIR:
    case CMD.RMDIR:
      return { ...origin, cmd, attr: { pathname: attr.pathname, ...foundAttr(attr) } };
    case CMD.MAP_ELEMENTS:
      return { ...origin, cmd, target, attr: { after: bytes(attr.after), limit: attr.limit } };
    case CMD.MIRROR_REFUSED:
    case CMD.MIRROR_RESYNC:
      return { ...origin, cmd, target, attr: ownAttr(attr) };
    case CMD.MIRROR_DRIFT:
      return { ...origin, cmd, target, attr: ownAttr(attr) };
    case CMD.MIRROR_FOUND:
      return { ...origin, cmd, target, attr: ownAttr(attr) };
    case CMD.MIRROR_FOLLOW:
      return { ...origin, cmd, target, attr: ownAttr(attr) };
    case CMD.MIRROR_DECIDE:
      return { ...origin, cmd, target, attr: ownAttr(attr) };
    case CMD.MIRROR_RECREATE:
    case CMD.MIRROR_RELEASE:
      return { ...origin, cmd, target, attr: ownAttr(attr) };
    case CMD.MIRROR_REPIN:
      return { ...origin, cmd, target, attr: ownAttr(attr) };
    case CMD.MIRROR_TAKE_OVER:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.MIRROR_LEAVE:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.MIRROR_FREED:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.FREE_DEFERRED:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.ACCESS_REFUSED:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.CALLERS:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.CERTIFICATES:
      return { ...origin, cmd, attr: ownAttr(attr) };
    case CMD.MIRROR_POLICY:
      return { ...origin, cmd, target, attr: { policy: attr.policy, intervalMs: attr.interval_ms } };
    default:
      return { ...origin, cmd: UNKNOWN_CMD, number: parts.cmd, name: attr.name };
  }
}

/** The reference to a map in a command. If the command closes or duplicates a descriptor: that descriptor. */
export function targetOf(command: Action): Target | null {
  if ("target" in command) return command.target;
  return "fd" in command ? { by: "fd", fd: command.fd } : null;
}

/**
 * The attr of a command of the service's own: the fields as they are in the event's attr, without `peer`, which the
 * event's attr has as well.
 */
function ownAttr({ peer: _, ...attr }: Attr): never {
  // The log's JSON is any of twenty types, of which the command's number says one: `never` fits each.
  return attr as never;
}

function fdOf(target: Target): number {
  if (target.by !== "fd") throw new Error(`reading a command on a descriptor: its target is by ${target.by}`);
  return target.fd;
}

/** `found` is left out if the event has none, so that the command read is equal to the command written. */
function foundAttr({ found }: Attr): { readonly found?: Occupied } {
  return found === undefined ? {} : { found: found as Occupied };
}

/**
 * Fields that the event does not have are left out: a session without `capabilities` has all of them, and one without
 * `process` outlives its client.
 */
function sessionAttr({ name, ttl_ms: ttlMs, capabilities, process }: Attr): SessionOpenCommand["attr"] {
  return {
    name: name as string,
    ttlMs: ttlMs as number,
    ...(capabilities === undefined ? {} : { capabilities: capabilities as readonly Capability[] }),
    ...(process === undefined ? {} : { process: readProcessAttr(process as Attr) }),
  };
}

function processAttr({ pid, uid, startTime, boot }: ClientProcess): Attr {
  return { pid, uid, start_time: startTime, boot };
}

function readProcessAttr({ pid, uid, start_time: startTime, boot }: Attr): ClientProcess {
  return { pid, uid, startTime, boot } as ClientProcess;
}

function openAttr({ progType, expectedAttachType, openFlags, ...spec }: OpenCommand["attr"]): Attr {
  return { ...spec, prog_type: progType, expected_attach_type: expectedAttachType, open_flags: openFlags };
}

function readOpenAttr({
  prog_type,
  expected_attach_type,
  open_flags,
  map: _map,
  peer: _peer,
  ...spec
}: Attr): OpenCommand["attr"] {
  return {
    ...(spec as ObjectSpec),
    ...(prog_type === undefined ? {} : { progType: prog_type as number }),
    ...(expected_attach_type === undefined ? {} : { expectedAttachType: expected_attach_type as number }),
    ...(open_flags === undefined ? {} : { openFlags: open_flags as number }),
  };
}

const asItIs = (value: unknown): unknown => value;

/** A field of each kind in JSON, and back. */
const SAY: Readonly<Record<FieldKind, (value: never) => unknown>> = {
  u32: asItIs,
  s32: asItIs,
  u64: String,
  fd: asItIs,
  char16: nameText,
  pointer: hex,
  path: asItIs,
};
const READ: Readonly<Record<FieldKind, (value: never) => unknown>> = {
  u32: asItIs,
  s32: asItIs,
  u64: BigInt,
  fd: asItIs,
  char16: nameBytes,
  pointer: bytes,
  path: asItIs,
};

function hex(buffer: Buffer | null): string | null {
  return buffer === null ? null : buffer.toString("hex");
}

/** The name up to its first NUL, one character a byte (latin1): the kernel ignores the rest. */
function nameText(name: Buffer): string {
  const end = name.indexOf(0);
  return name.toString("latin1", 0, end === -1 ? name.length : end);
}

function nameBytes(text: string): Buffer {
  const name = Buffer.alloc(OBJ_NAME_LEN);
  name.write(text, "latin1");
  return name;
}

function bytes(text: string | null): Buffer | null {
  return text === null ? null : Buffer.from(text, "hex");
}
