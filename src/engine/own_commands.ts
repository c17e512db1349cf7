/**
 * The commands that the engine makes itself, a function each: ends of sessions, changes of the machine, deferred
 * elements, and everything about kernel maps. They are events like all others, so that a replay needs neither a clock
 * nor a kernel.
 */

import { CMD } from "../abi/service.ts";
import { SERVICE_NAME } from "../access/caller.ts";
import type {
  BatchCommand,
  ClockStepCommand,
  DriftCommand,
  EndReason,
  KernelMapCommand,
  Target,
  Who,
} from "../syscall/command.ts";
import type { DeferredPiece } from "../syscall/deferral.ts";
import { batch } from "./batches.ts";
import type { ElementDifference, FormerKernelMap, MirrorFinding, MirrorRefusal } from "./ports.ts";
import type { Request } from "./request.ts";

/** The sender of the service's own commands. */
export const SERVICE = { session: 0, caller: SERVICE_NAME } as const;

export function clockStep(step: ClockStepCommand): Request {
  return { ...step, ...SERVICE };
}

export function sessionEnd(session: number, caller: string, reason: EndReason): Request {
  return { cmd: CMD.SESSION_END, session, caller, attr: { reason } };
}

/** Frees at most `elements` deferred elements. Further such commands free the rest. */
export function freeDeferred(deferred: DeferredPiece, elements: number): Request {
  return { cmd: CMD.FREE_DEFERRED, ...SERVICE, attr: { ...deferred, elements } };
}

/** An object has ended on the machine: a process has exited, or a cgroup was removed. */
export function objectEnd(object: number): Request {
  return { cmd: CMD.OBJECT_END, ...SERVICE, attr: { object } };
}

/** The machine has these network interfaces now. */
export function interfacesChange(ifindexes: readonly number[]): Request {
  return { cmd: CMD.INTERFACES, ...SERVICE, attr: { ifindexes } };
}

export function mirrorRefused({ mapId, operation, errno, detail }: MirrorRefusal): Request {
  return { cmd: CMD.MIRROR_REFUSED, ...SERVICE, target: byId(mapId), attr: { operation, errno, detail } };
}

/** A map and its kernel map were made equal, or are about to be. */
export function mirrorResync(mapId: number, who: Who, operation: string, detail = ""): Request {
  return { cmd: CMD.MIRROR_RESYNC, session: 0, ...who, target: byId(mapId), attr: { operation, errno: "", detail } };
}

export function mirrorDrift(mapId: number, attr: DriftCommand["attr"]): Request {
  return { cmd: CMD.MIRROR_DRIFT, ...SERVICE, target: byId(mapId), attr };
}

export function mirrorFound({ mapId, what, path, kernelId, detail }: MirrorFinding): Request {
  const attr = {
    what,
    ...(path === undefined ? {} : { path }),
    ...(kernelId === undefined ? {} : { kernel_id: kernelId }),
    detail,
  };
  return { cmd: CMD.MIRROR_FOUND, ...SERVICE, target: byId(mapId), attr };
}

export function mirrorFreed({ map, kernelId, boot, detail }: FormerKernelMap): Request {
  return { cmd: CMD.MIRROR_FREED, ...SERVICE, attr: { map, kernel_id: kernelId, boot, detail } };
}

/** An adopted map follows another kernel map from now on. `was`: the former one. */
export function mirrorFollow(mapId: number, kernelId: number, was: number, pin: string): Request {
  return { cmd: CMD.MIRROR_FOLLOW, ...SERVICE, target: byId(mapId), attr: { kernel_id: kernelId, was, pin } };
}

/** `keys`: the elements whose differences are settled; null: all. */
export function mirrorDecide(
  mapId: number,
  { caller, peer }: Who,
  take: "ledger" | "kernel",
  keys: readonly string[] | null,
): Request {
  return { cmd: CMD.MIRROR_DECIDE, session: 0, caller, peer, target: byId(mapId), attr: { take, keys } };
}

/** `was`: the map's present kernel map, which it gives up. */
export function kernelMapOrder(
  cmd: KernelMapCommand["cmd"],
  mapId: number,
  { caller, peer }: Who,
  was: number | null,
): Request {
  return { cmd, session: 0, caller, peer, target: byId(mapId), attr: { was } };
}

/** `aside`: the path at which the object that was pinned at `path` is pinned now; null: there was none. */
export function mirrorRepin(mapId: number, { caller, peer }: Who, path: string, aside: string | null): Request {
  return { cmd: CMD.MIRROR_REPIN, session: 0, caller, peer, target: byId(mapId), attr: { path, aside } };
}

export function mirrorTakeOver({ caller, peer }: Who, directory: string, owner: string): Request {
  return { cmd: CMD.MIRROR_TAKE_OVER, session: 0, caller, peer, attr: { directory, owner } };
}

/**
 * Batches that import the kernel's elements. Those that the kernel lacks are deleted first, so that there is room for
 * the others.
 */
export function imports(mapId: number, found: readonly ElementDifference[]): Request[] {
  const gone = found.filter(({ kernel }) => kernel === null);
  const there = found.filter(({ kernel }) => kernel !== null);
  const target = byId(mapId);
  const keysOf = (of: readonly ElementDifference[]): Buffer[] => of.map(({ key }) => key);
  const batches: BatchCommand[] = [];
  if (gone.length > 0) batches.push(batch(CMD.BPF_MAP_DELETE_BATCH, target, keysOf(gone), null));
  if (there.length > 0) {
    const values = there.map(({ kernel }) => kernel as Buffer);
    batches.push(batch(CMD.BPF_MAP_UPDATE_BATCH, target, keysOf(there), values));
  }
  return batches.map((command) => ({ ...SERVICE, imported: true, ...command }));
}

function byId(id: number): Extract<Target, { by: "id" }> {
  return { by: "id", id };
}
