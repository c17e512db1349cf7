/**
 * The scopes that each operation of the API needs, and sets of operations. A read-only service (`service/read_only.ts`)
 * has no engine: it answers the operations of `READ_ONLY` and the open ones, and refuses all others before their
 * routes.
 */

import type { MapCmdName } from "../../abi/bpf.ts";
import { cmdName } from "../../abi/service.ts";
import { SCOPES, type Scope } from "../../access/scopes.ts";

/**
 * The needs of an operation: "open", it may be called without authentication; one of some scopes; or "by command", the
 * scopes that COMMAND_SCOPES has for the command in the body.
 */
export type Need = "open" | "by command" | readonly Scope[];

const READ: readonly Scope[] = ["read"];
const WRITE: readonly Scope[] = ["write"];
const PIN: readonly Scope[] = ["pin"];
/** Opening a descriptor: its mode is limited to the caller's scopes. */
const OPENS: readonly Scope[] = ["read", "write"];
const ADMIN: Need = ["admin"];
/** Sessions: each is used by its own caller only. */
const SESSION: Need = ["read", "write", "pin", "admin"];

/** Every operation of the OpenAPI document. */
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
  listBtf: READ,
  getBtf: READ,
  getMapTypes: READ,
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

/**
 * Operations that also show values. They need `read` too, as the kernel requires both modes of a descriptor for them.
 */
export const ALSO_READ: ReadonlySet<string> = new Set([
  "popElement",
  "popElementOfMap",
  "lookupAndDeleteBatch",
  "lookupAndDeleteBatchOfMap",
  "restoreMap",
]);
/** Operations whose answer covers all maps: they need `read` without a glob, or `admin`. */
export const OF_ALL_MAPS: ReadonlySet<string> = new Set(["getMirror", "listBtf", "getBtf"]);
/** Operations that need no scope if MAPLEDGER_PUBLIC_EVIDENCE is on: they show only hashes. */
export const PUBLIC_EVIDENCE: ReadonlySet<string> = new Set(["getCheckpoint", "getTile"]);

/** Operations of a read-only service: they read, and ask no kernel. */
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
  "listBtf",
  "getBtf",
  "getMapTypes",
  "getArchive",
  "listReplays",
  "getReplay",
]);

/** The scopes that each command needs on the syscall door. */
export const COMMAND_SCOPES: Readonly<Record<MapCmdName, readonly Scope[]>> = {
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

/** By a command's number. Any other command fails for every caller, so any scope is enough. */
export function scopesOfCommand(cmd: number): readonly Scope[] {
  const name = cmdName(cmd);
  return name !== undefined && Object.hasOwn(COMMAND_SCOPES, name)
    ? COMMAND_SCOPES[name as keyof typeof COMMAND_SCOPES]
    : SCOPES;
}
