/**
 * The checks of callers whose scopes have globs. Each of their commands carries the id of their limits; all other
 * commands carry 0 and cost nothing. The check comes right before the decision, because names, pins and descriptors are
 * the state's knowledge and can change until then. It may narrow the command (the flags of a descriptor, the first id
 * of a walk), and the event then has the narrowed one.
 */

import { BPF_F } from "../abi/bpf.ts";
import { ID_MAX } from "../abi/limits.ts";
import { CMD, type KnownCmd, UNKNOWN_CMD } from "../abi/service.ts";
import { coversName, coversPath, type MapLimits } from "../access/map_limits.ts";
import { MAP_SCOPES, type MapScope, type Scope, type Scopes } from "../access/scopes.ts";
import type {
  Action,
  Command,
  CreateCommand,
  FdByIdCommand,
  GetPinCommand,
  NextIdCommand,
  ObjectSpec,
  Origin,
  PathCommand,
  PinCommand,
  Target,
} from "./command.ts";
import type { Coverage } from "./coverage.ts";
import { checkSession } from "./guards.ts";
import { placeOf } from "./pins.ts";
import type { State } from "./state.ts";

/**
 * The decision whether a caller whose scopes have globs may run a command, with the maps and pins of this moment. A
 * glob covers a map by its name or by its present pins. The decision is made immediately before the command runs, so
 * nothing changes in between.
 */
export type Permit =
  /**
   * Run this command. It may differ from the given one: it opens a descriptor with the access that the caller has, or
   * finds only maps that the caller may read.
   */
  | { readonly command: Command }
  /** Do not run it: the caller has no scope of this kind that covers the map or path. */
  | { readonly missing: Scope };

type Asked = { readonly state: State; readonly limits: MapLimits; readonly coverage: Coverage };
/** The missing scope; null: none; or the command in a changed form. */
type Answer = Scope | null | Command;
type Check<One extends Action> = (asked: Asked, command: Origin & One) => Answer;
type WithTarget = Origin & { readonly target: Target };

const ACCESS = BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY;

const NOT_OF_MAPS = (): null => null;
const OF_ADMIN = ({ limits }: Asked): Scope | null => (limits.admin ? null : "admin");
const OF_ALL_MAPS = ({ limits }: Asked): Scope | null => (limits.admin || limits.read === "all" ? null : "read");
const READ = (asked: Asked, command: WithTarget): Scope | null => onTarget(asked, command, "read");
const WRITE = (asked: Asked, command: WithTarget): Scope | null => onTarget(asked, command, "write");

/** A lookup-and-delete shows the values that it deletes. */
const TAKE = (asked: Asked, command: WithTarget): Scope | null => WRITE(asked, command) ?? READ(asked, command);

/** The check of each command. No other place says which scopes a command needs. */
const CHECKS: Readonly<Record<KnownCmd, Check<never>>> = {
  [CMD.BPF_MAP_CREATE]: createsMap,
  [CMD.BPF_MAP_LOOKUP_ELEM]: READ,
  [CMD.BPF_MAP_UPDATE_ELEM]: WRITE,
  [CMD.BPF_MAP_DELETE_ELEM]: WRITE,
  [CMD.BPF_MAP_GET_NEXT_KEY]: READ,
  [CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM]: TAKE,
  [CMD.BPF_MAP_FREEZE]: freezes,
  [CMD.BPF_MAP_LOOKUP_BATCH]: READ,
  [CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH]: TAKE,
  [CMD.BPF_MAP_UPDATE_BATCH]: WRITE,
  [CMD.BPF_MAP_DELETE_BATCH]: WRITE,
  [CMD.BPF_BTF_LOAD]: NOT_OF_MAPS,
  // BTF describes the maps of everybody who uses it, so that no glob covers it.
  [CMD.BPF_BTF_GET_NEXT_ID]: OF_ALL_MAPS,
  [CMD.BPF_BTF_GET_FD_BY_ID]: OF_ALL_MAPS,
  [CMD.BPF_OBJ_PIN]: pins,
  [CMD.BPF_OBJ_GET]: getsPin,
  [CMD.BPF_MAP_GET_NEXT_ID]: nextId,
  [CMD.BPF_MAP_GET_FD_BY_ID]: getsById,
  [CMD.BPF_OBJ_GET_INFO_BY_FD]: asksInfo,
  // Sessions and descriptors belong to their callers; the map of a descriptor is checked when it is used. Opening an
  // object is not a matter of maps: `asModesAllow` has checked it before the machine was asked for the object.
  [CMD.SESSION_OPEN]: NOT_OF_MAPS,
  [CMD.SESSION_RENEW]: NOT_OF_MAPS,
  [CMD.SESSION_END]: NOT_OF_MAPS,
  [CMD.CLOSE]: NOT_OF_MAPS,
  [CMD.DUP]: NOT_OF_MAPS,
  [CMD.OPEN]: NOT_OF_MAPS,
  [CMD.UNLINK]: changesPath,
  [CMD.MKDIR]: changesPath,
  [CMD.RMDIR]: changesPath,
  [CMD.MAP_ELEMENTS]: READ,
  [CMD.MEMORY_READ]: READ,
  [CMD.MEMORY_WRITE]: WRITE,
  [CMD.OBJECT_END]: OF_ADMIN,
  [CMD.INTERFACES]: OF_ADMIN,
  [CMD.MIRROR_REFUSED]: OF_ADMIN,
  [CMD.MIRROR_RESYNC]: OF_ADMIN,
  [CMD.MIRROR_DRIFT]: OF_ADMIN,
  [CMD.MIRROR_POLICY]: OF_ADMIN,
  [CMD.MIRROR_FOUND]: OF_ADMIN,
  [CMD.MIRROR_FOLLOW]: OF_ADMIN,
  [CMD.MIRROR_DECIDE]: OF_ADMIN,
  [CMD.MIRROR_RECREATE]: OF_ADMIN,
  [CMD.MIRROR_TAKE_OVER]: OF_ADMIN,
  [CMD.MIRROR_RELEASE]: OF_ADMIN,
  [CMD.MIRROR_REPIN]: OF_ADMIN,
  [CMD.MIRROR_LEAVE]: OF_ADMIN,
  [CMD.MIRROR_FREED]: OF_ADMIN,
  [CMD.ARCHIVE]: OF_ADMIN,
  [CMD.ACCESS_REFUSED]: NOT_OF_MAPS,
  [CMD.CALLERS]: OF_ADMIN,
  [CMD.CHECKPOINT]: OF_ADMIN,
  [CMD.TREE_BEGIN]: OF_ADMIN,
  [CMD.BACKUP_RESTORE]: OF_ADMIN,
  [CMD.KEY_ROTATE]: OF_ADMIN,
  [CMD.CLOCK_STEP]: OF_ADMIN,
  [CMD.FREE_DEFERRED]: OF_ADMIN,
  [CMD.CERTIFICATES]: OF_ADMIN,
};

export function permit(coverage: Coverage, command: Command, limits: MapLimits): Permit {
  const { state } = coverage;
  // The command itself refuses another caller's session and an unknown command.
  if (command.cmd === UNKNOWN_CMD || checkSession(state, command) !== null) return { command };
  const answer = (CHECKS[command.cmd] as Check<Action>)({ state, limits, coverage }, command);
  if (answer === null) return { command };
  return typeof answer === "string" ? { missing: answer } : { command: answer };
}

/** The missing scope for a reference, if one of several scopes would suffice; null: none is missing. */
export function missingFor(
  coverage: Coverage,
  target: Exclude<Target, { by: "fd" }>,
  limits: MapLimits,
  scopes: readonly MapScope[],
): Scope | null {
  const { state } = coverage;
  const reaches = scopes.map((scope) => limits[scope]);
  const isCovered = (map: number): boolean => reaches.some((reach) => coverage.covers(reach, map));
  switch (target.by) {
    case "id":
      // That an id is not in use is no secret: ids are assigned in order.
      return state.map(target.id) === undefined || isCovered(target.id) ? null : (scopes[0] as Scope);
    case "name": {
      const ids = state.names.ids(target.name);
      if (ids.length > 0) return ids.every(isCovered) ? null : (scopes[0] as Scope);
      return reaches.some((reach) => coversName(reach, target.name)) ? null : (scopes[0] as Scope);
    }
    case "pinned": {
      const map = state.bpffs.pinAt(target.pathname);
      if (map !== undefined) return isCovered(map) ? null : (scopes[0] as Scope);
      return reaches.some((reach) => coversPath(reach, target.pathname)) ? null : (scopes[0] as Scope);
    }
  }
}

/**
 * The scope that a target lacks; null: none. If the descriptor's mode does not allow the access, the command itself
 * refuses it, as bpf(2) does.
 */
function onTarget({ state, coverage, limits }: Asked, command: WithTarget, scope: "read" | "write"): Scope | null {
  const { target } = command;
  if (target.by !== "fd") return missingFor(coverage, target, limits, [scope]);
  const file = state.fd(command.session, target.fd);
  if (file === undefined || file.kind !== "map" || !(scope === "read" ? file.readable : file.writable)) return null;
  return coverage.covers(limits[scope], file.map) ? null : scope;
}

/** For bpf(2), a descriptor with any mode suffices. */
function asksInfo({ state, coverage, limits }: Asked, { session, target }: WithTarget): Scope | null {
  if (target.by !== "fd") return missingFor(coverage, target, limits, ["read"]);
  const file = state.fd(session, target.fd);
  return file === undefined || file.kind !== "map" || coverage.covers(limits.read, file.map) ? null : "read";
}

function freezes(asked: Asked, command: WithTarget): Scope | null {
  return command.target.by === "fd" ? WRITE(asked, command) : OF_ADMIN(asked);
}

/** Only names count here: a new map has no pins yet. */
function createsMap({ limits }: Asked, { attr: { mapName } }: Origin & CreateCommand): Scope | null {
  const end = mapName.indexOf(0);
  const name = mapName.toString("latin1", 0, end === -1 ? mapName.length : end);
  return coversName(limits.write, name) ? null : "write";
}

/** Lets a walk of ids find only maps that the caller may read: the event has the start_id that was really used. */
function nextId({ state, limits, coverage }: Asked, command: Origin & NextIdCommand): Answer {
  const { startId, openFlags } = command.attr;
  if (limits.read === "all" || openFlags !== 0 || startId > ID_MAX) return null;
  const next = coverage.next(limits.read, startId);
  const from = next === undefined ? Math.max(startId, state.lastId("map")) : next - 1;
  if (next !== undefined && state.mapAfter(startId) === next) return null;
  return { ...command, attr: { startId: from, openFlags } };
}

function getsById(asked: Asked, command: Origin & FdByIdCommand): Answer {
  const { mapId, openFlags } = command.attr;
  if (asked.state.map(mapId) === undefined) return null;
  const flags = openFlagsFor(asked, mapId, openFlags);
  if (typeof flags === "string") return flags;
  return flags === openFlags ? null : { ...command, attr: { mapId, openFlags: flags } };
}

function getsPin(asked: Asked, command: Origin & GetPinCommand): Answer {
  const { state, limits } = asked;
  const { attr } = command;
  const place = placeOf(state, command.session, attr);
  if (place === null) return null;
  const map = place === "nowhere" ? undefined : state.bpffs.pinAt(place);
  if (map === undefined)
    return place !== "nowhere" && (coversPath(limits.read, place) || coversPath(limits.write, place)) ? null : "read";
  const flags = openFlagsFor(asked, map, attr.fileFlags);
  if (typeof flags === "string") return flags;
  return flags === attr.fileFlags ? null : { ...command, attr: { ...attr, fileFlags: flags } };
}

/** The flags with which a descriptor gets the access that the caller has, and no more; or the missing scope. */
function openFlagsFor({ coverage, limits }: Asked, map: number, flags: number): number | Scope {
  const reads = coverage.covers(limits.read, map);
  const writes = coverage.covers(limits.write, map);
  return narrowed(flags, reads, writes);
}

function narrowed(flags: number, reads: boolean, writes: boolean): number | Scope {
  if (!reads && !writes) return "read";
  const asked = flags & ACCESS;
  if (asked === BPF_F.BPF_F_RDONLY) return reads ? flags : "read";
  if (asked === BPF_F.BPF_F_WRONLY) return writes ? flags : "write";
  if (asked === ACCESS || (reads && writes)) return flags;
  return flags | (reads ? BPF_F.BPF_F_RDONLY : BPF_F.BPF_F_WRONLY);
}

/**
 * Limits a command to the caller's scopes, without their globs: a descriptor of a map gets the mode that `read` and
 * `write` allow; making an object requires `write`; a descriptor of an existing object is read-only without `write`.
 * Returns the missing scope if nothing is left.
 */
export function asModesAllow(action: Action, scopes: Scopes): Action | Scope {
  const [reads, writes] = [scopes.has("read"), scopes.has("write")];
  switch (action.cmd) {
    case CMD.OPEN:
      if (writes) return action;
      return makesObject(action.attr)
        ? "write"
        : { ...action, attr: { ...action.attr, openFlags: BPF_F.BPF_F_RDONLY } };
    case CMD.BPF_OBJ_GET: {
      const fileFlags = narrowed(action.attr.fileFlags, reads, writes);
      return typeof fileFlags === "string" ? fileFlags : { ...action, attr: { ...action.attr, fileFlags } };
    }
    case CMD.BPF_MAP_GET_FD_BY_ID: {
      const openFlags = narrowed(action.attr.openFlags, reads, writes);
      return typeof openFlags === "string" ? openFlags : { ...action, attr: { ...action.attr, openFlags } };
    }
    default:
      return action;
  }
}

/** Whether opening makes a new object, on the machine or in the ledger, and does not find an existing one. */
function makesObject({ kind, path, id, progType }: ObjectSpec): boolean {
  switch (kind) {
    case "file":
    case "dir":
    case "cgroup":
      return path === undefined;
    case "prog":
      return progType !== undefined || (path === undefined && id === undefined);
    case "pidfd":
    case "pidfd_self":
      return false;
    case "pidfd_dead":
    case "pipe":
    case "perf_event":
    case "tcp_idle":
    case "tcp_listen":
    case "tcp_connected":
    case "udp_idle":
    case "udp_bound":
    case "unix_stream":
    case "unix_dgram":
    case "xsk":
      return true;
  }
}

/**
 * Pinning requires that the caller may pin at the path and may use the map. The new pin may bring the map under more
 * globs. It may give access to other callers, because the caller has the scope for the path. But it must not give this
 * caller an access to the map that the caller does not have.
 */
function pins({ state, coverage, limits }: Asked, command: Origin & PinCommand): Scope | null {
  const { target, attr, session } = command;
  const map = mapOf(state, session, target);
  if (target.by !== "fd") {
    const missing = missingFor(coverage, target, limits, ["read", "write"]);
    if (missing !== null) return missing;
  }
  const place = placeOf(state, session, attr);
  if (place === null || map === undefined) return null;
  const record = state.map(map);
  if (place === "nowhere" || !(coversPath(limits.pin, place) || coversName(limits.pin, record?.name ?? "")))
    return "pin";
  const used = MAP_SCOPES.filter((scope) => scope !== "pin");
  if (!used.some((scope) => coverage.covers(limits[scope], map))) return "read";
  return used.find((scope) => coversPath(limits[scope], place) && !coverage.covers(limits[scope], map)) ?? null;
}

/** The map of a reference; undefined: none, or several. */
function mapOf(state: State, session: number, target: Target): number | undefined {
  switch (target.by) {
    case "fd": {
      const file = state.fd(session, target.fd);
      return file?.kind === "map" ? file.map : undefined;
    }
    case "id":
      return state.map(target.id)?.id;
    case "pinned":
      return state.bpffs.pinAt(target.pathname);
    case "name": {
      const ids = state.names.ids(target.name);
      return ids.length === 1 ? ids[0] : undefined;
    }
  }
}

function changesPath({ state, limits }: Asked, command: Origin & PathCommand): Scope | null {
  const place = placeOf(state, command.session, { pathname: command.attr.pathname, fileFlags: 0, pathFd: 0 });
  if (place === null || (place !== "nowhere" && coversPath(limits.pin, place))) return null;
  const map = command.cmd === CMD.UNLINK ? state.bpffs.pinAt(place) : undefined;
  const name = map === undefined ? undefined : state.map(map)?.name;
  return name !== undefined && coversName(limits.pin, name) ? null : "pin";
}
