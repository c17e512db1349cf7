/** Sessions and their descriptors: open, renew, end, close, dup, and descriptors by map id. */

import { BPF_F } from "../abi/bpf.ts";
import { ID_MAX } from "../abi/limits.ts";
import type { ProcessFacts } from "../maps/object.ts";
import { isRefusal, refuse } from "../maps/refusal.ts";
import type {
  CloseCommand,
  DupCommand,
  FdByIdCommand,
  FreeDeferredCommand,
  NextIdCommand,
  Origin,
  SessionEndCommand,
  SessionOpenCommand,
  SessionRenewCommand,
} from "./command.ts";
import { mapFile } from "./create.ts";
import type { FdRecord } from "./fd_table.ts";
import { checkCapability, newFd, openFile } from "./guards.ts";
import { done, failed, type Outcome, opened } from "./outcome.ts";
import { checkQuota } from "./quota.ts";
import type { State } from "./state.ts";

const OPEN_FLAGS = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY;

export function openSession(state: State, command: Origin & SessionOpenCommand): Outcome {
  const refusal = checkQuota(state.charges, command.caller, "sessions", 1);
  if (refusal !== null) return failed(refusal);
  const id = state.lastId("session") + 1;
  redoOpenSession(state, command, done(0, null, { session_id: id }));
  return done(0, null, { session_id: id });
}

export function redoOpenSession(state: State, command: Origin & SessionOpenCommand, outcome: Outcome): void {
  if (outcome.errno !== 0) return;
  const id = outcome.out?.session_id as number;
  state.usedId("session", id);
  const { caller, peer, timeUs: openedUs, attr } = command;
  state.sessions.open({ id, caller, ...(peer !== undefined && { peer }), openedUs, ...attr });
}

/** Renews a lease. The engine keeps the lease itself; the state keeps the TTL. */
export function renewSession(state: State, command: Origin & SessionRenewCommand): Outcome {
  const outcome = done(0);
  redoRenewSession(state, command, outcome);
  return outcome;
}

export function redoRenewSession(state: State, command: Origin & SessionRenewCommand, outcome: Outcome): void {
  const session = state.session(command.session);
  const { ttlMs } = command.attr;
  if (outcome.errno === 0 && session !== undefined && ttlMs !== null) state.sessions.change({ ...session, ttlMs });
}

/** Ends a session, whose descriptors the engine has closed before, each by a command of its own. */
export function endSession(state: State, command: Origin & SessionEndCommand): Outcome {
  const outcome = done(0);
  redoEndSession(state, command, outcome);
  return outcome;
}

export function redoEndSession(state: State, command: Origin & SessionEndCommand, outcome: Outcome): void {
  if (outcome.errno !== 0) return;
  const self = state.objects.known(ownProcess(command.session));
  if (self !== undefined) state.ties.end(self.id);
  state.endSession(command.session);
}

/** The process of a session, for machines where no real process is known. */
export function ownProcess(session: number): ProcessFacts {
  return { kind: "process", pid: 0, startTime: `session ${session}`, exited: false };
}

export function close(state: State, command: Origin & CloseCommand): Outcome {
  const file = openFile(state, command.session, command.fd);
  if (isRefusal(file)) return failed(file);
  state.closeFd(command.session, command.fd);
  return done(file.map);
}

export function redoClose(state: State, command: Origin & CloseCommand, outcome: Outcome): void {
  if (outcome.errno === 0) state.closeFd(command.session, command.fd);
}

export function dup(state: State, command: Origin & DupCommand): Outcome {
  const file = openFile(state, command.session, command.fd);
  if (isRefusal(file)) return failed(file);
  return openAt(state, command.session, file);
}

export function redoDup(state: State, command: Origin & DupCommand, outcome: Outcome): void {
  const file = state.fd(command.session, command.fd);
  if (outcome.errno === 0 && file !== undefined) state.openFd(command.session, outcome.ret, file);
}

/** bpf_obj_get_next_id(): the smallest id above start_id. */
export function getNextId(state: State, command: Origin & NextIdCommand): Outcome {
  const { startId, openFlags } = command.attr;
  if (openFlags !== 0)
    return failed(refuse("EINVAL", `open_flags ${openFlags}: must be 0, because the command does not use this field`));
  if (startId > ID_MAX) return failed(refuse("EINVAL", `start_id ${startId}: more than ${ID_MAX}, the largest id`));
  const refusal = checkCapability(state, command.session, "CAP_SYS_ADMIN", "walking ids");
  if (refusal !== null) return failed(refusal);
  const next = state.mapAfter(startId);
  if (next === undefined) return failed(refuse("ENOENT", `no map has an id above ${startId}`));
  return done(next, null, { next_id: next });
}

/** bpf_map_get_fd_by_id() */
export function getFdById(state: State, command: Origin & FdByIdCommand): Outcome {
  const { mapId, openFlags } = command.attr;
  if ((openFlags & ~OPEN_FLAGS) !== 0)
    return failed(refuse("EINVAL", `open_flags ${openFlags}: BPF_F_RDONLY and BPF_F_WRONLY are allowed`));
  const refusal = checkCapability(state, command.session, "CAP_SYS_ADMIN", "opening a map by its id");
  if (refusal !== null) return failed(refusal);
  if (openFlags === OPEN_FLAGS) return failed(refuse("EINVAL", "BPF_F_RDONLY excludes BPF_F_WRONLY"));
  if (state.map(mapId) === undefined) return failed(refuse("ENOENT", `no map has id ${mapId}`));
  return openAt(state, command.session, mapFile(state, mapId, openFlags));
}

export function redoGetFdById(state: State, command: Origin & FdByIdCommand, outcome: Outcome): void {
  if (outcome.errno === 0)
    state.openFd(command.session, outcome.ret, mapFile(state, outcome.map, command.attr.openFlags));
}

/** Opens the lowest free descriptor for an open file, or EMFILE. */
export function openAt(state: State, session: number, file: FdRecord): Outcome {
  const fd = newFd(state, session);
  if (isRefusal(fd)) return failed(fd, file.map);
  state.openFd(session, fd, file);
  return opened(fd, file.map);
}

/** Does a piece of the work that an earlier event has deferred. */
export function freeDeferred(state: State, { attr }: Origin & FreeDeferredCommand): Outcome {
  const { map, object, interfaces, elements } = attr;
  let count = 0;
  if (map !== undefined) count = state.garbage.freeElements(map, elements);
  else if (object !== undefined) count = state.ties.freeElements(object, elements);
  else if (interfaces !== undefined) count = state.interfaces.freeElements(interfaces, elements);
  return done(0, null, { count });
}
