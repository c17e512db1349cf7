/** Checks that several commands share, in the kernel's order within each command. */

import { BPF_ELEM } from "../abi/bpf.ts";
import { CMD } from "../abi/service.ts";
import { mayUseSessionOf } from "../access/caller.ts";
import type { MapRecord } from "../maps/map.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { Capability, Command, ElementCommand, Origin, Target } from "./command.ts";
import type { FdRecord } from "./fd_table.ts";
import { severalNamed } from "./map_names.ts";
import { OPERATOR, OpenMap } from "./open_map.ts";
import { failed, type Outcome } from "./outcome.ts";
import { checkQuota } from "./quota.ts";
import type { State } from "./state.ts";

/**
 * Checks that the session exists and belongs to the caller; null: it does. Session 0, the operator's view, always
 * passes.
 */
export function checkSession(state: State, origin: Origin): Outcome | null {
  if (origin.session === 0) return null;
  const session = state.session(origin.session);
  if (session === undefined) {
    const ended = origin.session <= state.lastId("session");
    const detail = ended ? `session ${origin.session} has ended` : `there is no session ${origin.session}`;
    return failed(refuse("EBADF", detail), 0, { session: ended ? "ended" : "unknown" });
  }
  if (!mayUseSessionOf(session.caller, origin.caller))
    return failed(refuse("EPERM", `session ${origin.session} is another caller's`), 0, { session: "foreign" });
  return null;
}

const FULL = refuse("EMFILE", "the session's descriptor table is full");

/** The lowest free descriptor of a session, or EMFILE. */
export function newFd(state: State, session: number): number | Refusal {
  const caller = state.session(session)?.caller ?? "";
  return checkQuota(state.charges, caller, "descriptors", 1) ?? state.fds.lowestFree(session) ?? FULL;
}

/** The open file of a descriptor of any kind. */
export function openFile(state: State, session: number, fd: number): FdRecord | Refusal {
  return state.fd(session, fd) ?? refuse("EBADF", `fd ${fd} is not open in session ${session}`);
}

/** The map that a command refers to. EBADF and EINVAL for descriptors, ENOENT for the operator's references. */
export function openMap(state: State, origin: Origin, target: Target): OpenMap | Refusal {
  if (target.by === "fd") {
    const file = state.fd(origin.session, target.fd);
    if (file === undefined) return refuse("EBADF", `fd ${target.fd} is not open in session ${origin.session}`);
    if (file.kind !== "map") return refuse("EINVAL", `fd ${target.fd} is a ${file.kind}, not a map`);
    const { readable, writable } = file;
    const access = { session: origin.session, file: file.file, readable, writable };
    return new OpenMap(state, state.map(file.map) as MapRecord, access);
  }
  const id = referencedMap(state, target);
  if (typeof id !== "number") return id;
  const map = state.map(id);
  return map === undefined ? refuse("ENOENT", `no map has id ${id}`) : new OpenMap(state, map, OPERATOR);
}

/** Buffers longer than this are cut before a command is passed on. */
const LONG_BYTES = 64 * 1024;

/**
 * Cuts the buffers of an element command to the bytes that the kernel would read: the map's key size, and for an update
 * the value size.
 */
export function asRead(state: State, command: Command): Command {
  if (!isOnElement(command)) return command;
  const { cmd, key, value, target, exact } = command;
  if (exact === true || (key?.length ?? 0) + (value?.length ?? 0) <= LONG_BYTES) return command;
  const map = openMap(state, command, target);
  if (isRefusal(map)) return command;
  const { keySize } = map.map;
  const updates = cmd === CMD.BPF_MAP_UPDATE_ELEM;
  return {
    ...command,
    // A map without keys refuses a key, so it is kept.
    key: keySize === 0 ? key : (key?.subarray(0, keySize) ?? null),
    value: updates ? (value?.subarray(0, map.type.valueBytes(map.map, state.host)) ?? null) : value,
  };
}

function isOnElement(command: Command): command is Command & ElementCommand {
  return "key" in command && !("attr" in command);
}

/** The map of a replayed event. Throws if it does not exist: then the state is not the one before the event. */
export function replayedMap(state: State, id: number): OpenMap {
  const map = state.map(id);
  if (map === undefined) throw new Error(`there is no map ${id}`);
  return new OpenMap(state, map, OPERATOR);
}

function referencedMap(state: State, target: Exclude<Target, { by: "fd" }>): number | Refusal {
  switch (target.by) {
    case "id":
      return target.id;
    case "pinned":
      return state.bpffs.pinAt(target.pathname) ?? refuse("ENOENT", `no map is pinned at ${target.pathname}`);
    case "name": {
      const ids = state.names.ids(target.name);
      if (ids.length > 1) return refuse("EINVAL", severalNamed(target.name, ids));
      return ids[0] ?? refuse("ENOENT", `no map has the name ${target.name}`);
    }
  }
}

/** FMODE_CAN_READ. */
export function checkReadable(map: OpenMap): Refusal | null {
  return map.readable ? null : refuse("EPERM", "the fd was opened with BPF_F_WRONLY");
}

/** FMODE_CAN_WRITE, which freezing removes from every descriptor. */
export function checkWritable(map: OpenMap): Refusal | null {
  if (map.map.frozen) return refuse("EPERM", "the map is frozen");
  return map.writable ? null : refuse("EPERM", "the fd was opened with BPF_F_RDONLY");
}

/** BPF_ELEM.BPF_F_LOCK requires a lock in the value. */
export function checkLock({ map }: OpenMap, flags: bigint): Refusal | null {
  if ((flags & BPF_ELEM.BPF_F_LOCK) === 0n || map.special.some(({ kind }) => kind === "bpf_spin_lock")) return null;
  return refuse("EINVAL", "BPF_F_LOCK, but the value has no bpf_spin_lock");
}

/** An update's flags without BPF_F_LOCK: elements are written one at a time here, so the lock makes no difference. */
export function withoutLock(flags: bigint): bigint {
  return flags & ~BPF_ELEM.BPF_F_LOCK;
}

/** capable() of the session's process. CAP_SYS_ADMIN implies the others; the operator passes always. */
export function checkCapability(state: State, session: number, needed: Capability, what: string): Refusal | null {
  const held = state.session(session)?.capabilities;
  if (held === undefined || held.includes(needed) || held.includes("CAP_SYS_ADMIN")) return null;
  return refuse("EPERM", `${what} requires ${needed}, which session ${session} does not have`);
}

const NOTHING = Buffer.alloc(0);

/** copy_from_user(): reads exactly `size` bytes and ignores further ones. */
export function readUser(buffer: Buffer | null, size: number, what: string): Buffer | Refusal {
  if (size === 0) return NOTHING;
  if (buffer === null) return refuse("EFAULT", `${what} is the null pointer: the command reads ${size} bytes`);
  if (buffer.length < size) return refuse("EFAULT", `${what} has ${buffer.length} bytes: the command reads ${size}`);
  return buffer.length === size ? buffer : buffer.subarray(0, size);
}

/**
 * Refuses (EINVAL) a key or value of a URL or list that is not as long as the map's. `count` of them lie end to end.
 */
export function checkExact(
  command: { exact?: boolean },
  buffer: Buffer | null,
  size: number,
  count: number,
  what: string,
): Refusal | null {
  if (command.exact !== true || buffer === null || buffer.length === size * count) return null;
  return refuse("EINVAL", `the request's ${what} has ${buffer.length / count} bytes: this map requires ${size}`);
}

/** copy_to_user() to the caller's buffer; null: a buffer of the right size. */
export function checkRoom(buffer: Buffer | null, size: number, what: string): Refusal | null {
  if (buffer === null || buffer.length >= size) return null;
  return refuse("EFAULT", `${what} has room for ${buffer.length} bytes: the command writes ${size}`);
}
