/**
 * The scopes that each operation of the API needs, and sets of operations that are treated alike. `READ_ONLY` has all
 * that a service without an engine answers (`service/read_only.ts`); any other operation is refused there before it
 * reaches its route.
 */

import type { MapCmdName } from "../../abi/bpf.ts";
import { cmdName } from "../../abi/service.ts";
import { SCOPES, type Scope } from "../../access/scopes.ts";

/**
 * What a caller needs for a route: nothing, not even to be known; any scope of these; or what the command in the body
 * needs, `COMMAND_SCOPES`.
 */
export type Need = "open" | "by command" | readonly Scope[];

const READ: readonly Scope[] = ["read"];
const WRITE: readonly Scope[] = ["write"];
const PIN: readonly Scope[] = ["pin"];
/** A descriptor that lets through what the caller may do. */
const OPENS: readonly Scope[] = ["read", "write"];
const ADMIN: Need = ["admin"];
/** Sessions are their callers' own. */
const SESSION: Need = ["read", "write", "pin", "admin"];

/** Every operation of the API document, and what it needs. */
export const ROUTE_SCOPES: Readonly<Record<string, Need>> = {
  getLiveness: "open",
  getReadiness: "open",
  getDocument: "open",
  getMetrics: ["metrics"],
  getCheckpoint: ["evidence"],
  getTile: ["evidence"],
  getLog: ["evidence", "read"],

  bpf: "by command",
  openSession: SESSION,
  listSessions: SESSION,
  getSession: SESSION,
  renewSession: SESSION,
  endSession: SESSION,
  attachSession: SESSION,
  listDescriptors: SESSION,
  getDescriptor: SESSION,
  closeDescriptor: SESSION,
  openDescriptor: OPENS,

  listMaps: READ,
  getMap: READ,
  lookupElement: READ,
  lookupElementOfMap: READ,
  listElements: READ,
  listElementsOfMap: READ,
  nextKey: READ,
  nextKeyOfMap: READ,
  peekElement: READ,
  peekElementOfMap: READ,
  lookupBatch: READ,
  lookupBatchOfMap: READ,
  readMemory: READ,
  readMemoryOfMap: READ,
  watchMap: READ,
  elementHistory: READ,
  diffMap: READ,
  listEvents: READ,
  streamEvents: READ,
  getEvent: READ,
  getProof: READ,
  listPins: READ,
  listDirectories: READ,
  getDrift: READ,
  getMirror: READ,

  createMap: WRITE,
  updateElement: WRITE,
  updateElementOfMap: WRITE,
  deleteElement: WRITE,
  deleteElementOfMap: WRITE,
  pushElement: WRITE,
  pushElementOfMap: WRITE,
  popElement: WRITE,
  popElementOfMap: WRITE,
  updateBatch: WRITE,
  updateBatchOfMap: WRITE,
  deleteBatch: WRITE,
  deleteBatchOfMap: WRITE,
  lookupAndDeleteBatch: WRITE,
  lookupAndDeleteBatchOfMap: WRITE,
  writeMemory: WRITE,
  writeMemoryOfMap: WRITE,
  freezeMap: WRITE,
  restoreMap: WRITE,

  pinMap: PIN,
  pinAnyMap: PIN,
  unlinkPin: PIN,
  makeDirectory: PIN,
  removeDirectory: PIN,

  freezeAnyMap: ADMIN,
  beginArchive: ADMIN,
  getArchive: ADMIN,
  adoptMap: ADMIN,
  listKernelMaps: ADMIN,
  resyncMap: ADMIN,
  setDriftPolicy: ADMIN,
  decideDrift: ADMIN,
  recreateKernelMap: ADMIN,
  releaseKernelMap: ADMIN,
  repinMap: ADMIN,
  takeOverPins: ADMIN,
  startReplay: ADMIN,
  listReplays: ADMIN,
  getReplay: ADMIN,
  cancelReplay: ADMIN,
  importEvents: ADMIN,
};

/** Operations that show values besides: they need a read as well, as bpf(2) wants both modes of a descriptor. */
export const ALSO_READ: ReadonlySet<string> = new Set([
  "popElement",
  "popElementOfMap",
  "lookupAndDeleteBatch",
  "lookupAndDeleteBatchOfMap",
  "restoreMap",
]);
/** Operations that answer about all maps at once: they need a read without a glob, or admin. */
export const OF_ALL_MAPS: ReadonlySet<string> = new Set(["getMirror"]);
/** Operations that need nothing where MAPLEDGER_PUBLIC_EVIDENCE is on: hashes alone. */
export const PUBLIC_EVIDENCE: ReadonlySet<string> = new Set(["getCheckpoint", "getTile"]);

/** Operations that read, of which a kernel is not asked: those of a service that changes nothing. */
export const READ_ONLY: ReadonlySet<string> = new Set([
  "getMetrics",
  "getCheckpoint",
  "getTile",
  "getLog",
  "listSessions",
  "getSession",
  "listDescriptors",
  "getDescriptor",
  "listMaps",
  "getMap",
  "lookupElement",
  "lookupElementOfMap",
  "listElements",
  "listElementsOfMap",
  "nextKey",
  "nextKeyOfMap",
  "peekElement",
  "peekElementOfMap",
  "lookupBatch",
  "lookupBatchOfMap",
  "readMemory",
  "readMemoryOfMap",
  "watchMap",
  "elementHistory",
  "diffMap",
  "listEvents",
  "streamEvents",
  "getEvent",
  "getProof",
  "listPins",
  "listDirectories",
  "getArchive",
  "listReplays",
  "getReplay",
]);

/** What each command of the syscall door needs; of those that mapledger does not have, the two that name BTF by its id. */
export const COMMAND_SCOPES: Readonly<
  Record<MapCmdName | "BPF_BTF_GET_NEXT_ID" | "BPF_BTF_GET_FD_BY_ID", readonly Scope[]>
> = {
  BPF_MAP_CREATE: WRITE,
  BPF_MAP_LOOKUP_ELEM: READ,
  BPF_MAP_UPDATE_ELEM: WRITE,
  BPF_MAP_DELETE_ELEM: WRITE,
  BPF_MAP_GET_NEXT_KEY: READ,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: WRITE,
  BPF_MAP_FREEZE: WRITE,
  BPF_MAP_LOOKUP_BATCH: READ,
  BPF_MAP_LOOKUP_AND_DELETE_BATCH: WRITE,
  BPF_MAP_UPDATE_BATCH: WRITE,
  BPF_MAP_DELETE_BATCH: WRITE,
  BPF_OBJ_PIN: PIN,
  BPF_OBJ_GET: OPENS,
  BPF_MAP_GET_NEXT_ID: READ,
  BPF_MAP_GET_FD_BY_ID: OPENS,
  BPF_BTF_GET_NEXT_ID: READ,
  BPF_BTF_GET_FD_BY_ID: OPENS,
  BPF_OBJ_GET_INFO_BY_FD: READ,
  BPF_BTF_LOAD: WRITE,
};

/** By a command's number. All others fail whoever asks: any scope will do. */
export function scopesOfCommand(cmd: number): readonly Scope[] {
  const name = cmdName(cmd);
  return name !== undefined && Object.hasOwn(COMMAND_SCOPES, name)
    ? COMMAND_SCOPES[name as keyof typeof COMMAND_SCOPES]
    : SCOPES;
}
