/**
 * The commands as one table: each is decided and done by `run`, and done again from its event by `redo`, which decides
 * nothing.
 */

import { CMD, type KnownCmd, UNKNOWN_CMD } from "../abi/service.ts";
import { refuse } from "../maps/refusal.ts";
import { accessRefused } from "./access.ts";
import { batch, redoBatch } from "./batch.ts";
import { getBtfFdById, getNextBtfId, redoGetBtfFdById } from "./btf.ts";
import type { Command, DriftCommand, FoundCommand, MirrorCommand, Origin, UnknownCommand } from "./command.ts";
import { createMap, redoCreate } from "./create.ts";
import {
  close,
  dup,
  endSession,
  freeDeferred,
  getFdById,
  getNextId,
  openSession,
  redoClose,
  redoDup,
  redoEndSession,
  redoGetFdById,
  redoOpenSession,
  redoRenewSession,
  renewSession,
} from "./descriptors.ts";
import { deleteElem, freeze, getNextKey, lookupAndDeleteElem, lookupElem, redoElement, updateElem } from "./element.ts";
import { elements } from "./elements.ts";
import { checkSession } from "./guards.ts";
import { getInfo } from "./info.ts";
import {
  decideDrift,
  followKernelMap,
  noteFormer,
  onMap,
  recreateKernelMap,
  redoDriftPolicy,
  redoOnMap,
  releaseKernelMap,
  setDriftPolicy,
  takeOver,
} from "./kernel_maps.ts";
import { readMapMemory, redoWriteMapMemory, writeMapMemory } from "./memory.ts";
import { endObject, loadBtf, open, redoLoadBtf, redoOpen, setInterfaces } from "./open.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import { changePath, objGet, objPin, redoChangePath, redoObjGet, redoObjPin } from "./pins.ts";
import type { State } from "./state.ts";

/** A command's functions: `run` decides and does it; `redo` does what its event records. */
interface Row {
  readonly run: (state: State, command: Command) => Outcome;
  readonly redo: (state: State, command: Command, outcome: Outcome) => void;
}

/** The row of a command. Without `redo` the command changes nothing. */
function row<One extends Command>(
  run: (state: State, command: One) => Outcome,
  redo: (state: State, command: One, outcome: Outcome) => unknown = redoNothing,
): Row {
  return { run: run as Row["run"], redo: redo as Row["redo"] };
}

function redoNothing(): void {}

/** The rows of all commands. */
const COMMANDS: Readonly<Record<KnownCmd, Row>> = {
  [CMD.BPF_MAP_CREATE]: row(createMap, redoCreate),
  [CMD.BPF_MAP_LOOKUP_ELEM]: row(lookupElem),
  [CMD.BPF_MAP_UPDATE_ELEM]: row(updateElem, redoElement),
  [CMD.BPF_MAP_DELETE_ELEM]: row(deleteElem, redoElement),
  [CMD.BPF_MAP_GET_NEXT_KEY]: row(getNextKey),
  [CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM]: row(lookupAndDeleteElem, redoElement),
  [CMD.BPF_MAP_FREEZE]: row(freeze, redoElement),
  [CMD.BPF_MAP_LOOKUP_BATCH]: row(batch),
  [CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH]: row(batch, redoBatch),
  [CMD.BPF_MAP_UPDATE_BATCH]: row(batch, redoBatch),
  [CMD.BPF_MAP_DELETE_BATCH]: row(batch, redoBatch),
  [CMD.BPF_BTF_LOAD]: row(loadBtf, redoLoadBtf),
  [CMD.BPF_BTF_GET_NEXT_ID]: row(getNextBtfId),
  [CMD.BPF_BTF_GET_FD_BY_ID]: row(getBtfFdById, redoGetBtfFdById),
  [CMD.BPF_OBJ_PIN]: row(objPin, redoObjPin),
  [CMD.BPF_OBJ_GET]: row(objGet, redoObjGet),
  [CMD.BPF_MAP_GET_NEXT_ID]: row(getNextId),
  [CMD.BPF_MAP_GET_FD_BY_ID]: row(getFdById, redoGetFdById),
  [CMD.BPF_OBJ_GET_INFO_BY_FD]: row(getInfo),
  [CMD.SESSION_OPEN]: row(openSession, redoOpenSession),
  [CMD.SESSION_RENEW]: row(renewSession, redoRenewSession),
  [CMD.SESSION_END]: row(endSession, redoEndSession),
  [CMD.CLOSE]: row(close, redoClose),
  [CMD.DUP]: row(dup, redoDup),
  [CMD.OPEN]: row(open, redoOpen),
  [CMD.UNLINK]: row(changePath, redoChangePath),
  [CMD.MKDIR]: row(changePath, redoChangePath),
  [CMD.RMDIR]: row(changePath, redoChangePath),
  [CMD.MAP_ELEMENTS]: row(elements),
  [CMD.MEMORY_READ]: row(readMapMemory),
  [CMD.MEMORY_WRITE]: row(writeMapMemory, redoWriteMapMemory),
  [CMD.OBJECT_END]: row(endObject, endObject),
  [CMD.INTERFACES]: row(setInterfaces, setInterfaces),
  [CMD.MIRROR_REFUSED]: row(mirrored),
  [CMD.MIRROR_RESYNC]: row(mirrored),
  [CMD.MIRROR_DRIFT]: row(mirrored),
  [CMD.MIRROR_POLICY]: row(setDriftPolicy, redoDriftPolicy),
  [CMD.MIRROR_FOUND]: row(mirrored),
  [CMD.MIRROR_FOLLOW]: row(followKernelMap, redoOnMap),
  [CMD.MIRROR_DECIDE]: row(decideDrift, redoOnMap),
  [CMD.MIRROR_RECREATE]: row(recreateKernelMap, redoOnMap),
  [CMD.MIRROR_TAKE_OVER]: row(takeOver, takeOver),
  [CMD.MIRROR_RELEASE]: row(releaseKernelMap, redoOnMap),
  [CMD.MIRROR_REPIN]: row(onMap),
  [CMD.MIRROR_LEAVE]: row(() => done(0)),
  [CMD.MIRROR_FREED]: row(noteFormer, noteFormer),
  [CMD.ARCHIVE]: row(() => done(0)),
  [CMD.ACCESS_REFUSED]: row(accessRefused),
  [CMD.CALLERS]: row(() => done(0)),
  [CMD.CERTIFICATES]: row(() => done(0)),
  [CMD.CHECKPOINT]: row(() => done(0)),
  [CMD.TREE_BEGIN]: row(() => done(0)),
  [CMD.BACKUP_RESTORE]: row(() => done(0)),
  [CMD.KEY_ROTATE]: row(() => done(0)),
  [CMD.CLOCK_STEP]: row(() => done(0)),
  [CMD.FREE_DEFERRED]: row(freeDeferred, freeDeferred),
};

/** Whether a replay has anything to do for a command. */
export function hasRedo(cmd: KnownCmd): boolean {
  return COMMANDS[cmd].redo !== redoNothing;
}

/**
 * Decides a command and does it. A pure function of state and command, which changes only the state, and throws for
 * nothing that a caller can cause.
 */
export function execute(state: State, command: Command): Outcome {
  const outcome = checkSession(state, command) ?? rowOf(command)?.run(state, command) ?? unknown(command);
  const went = state.aftermath.take();
  return went === null ? outcome : { ...outcome, out: { ...outcome.out, ...went } };
}

/** Replays an event: applies its recorded outcome without deciding anything. */
export function redo(state: State, command: Command, outcome: Outcome): void {
  state.deferral.redoing(outcome.out?.deferred ?? {});
  rowOf(command)?.redo(state, command, outcome);
  state.deferral.redoing(null);
  state.aftermath.take();
}

function rowOf(command: Command): Row | undefined {
  return command.cmd === UNKNOWN_CMD ? undefined : COMMANDS[command.cmd];
}

function unknown(command: Command): Outcome {
  const { name, fault } = command as UnknownCommand;
  if (fault !== undefined) return failed(refuse(fault.errno, fault.detail));
  return failed(
    refuse("EINVAL", `mapledger does not have ${name}: the command is not about maps, or exists inside a kernel only`),
  );
}

/** The mirror's reports change nothing; they are only recorded. */
function mirrored(_state: State, { target }: Origin & (MirrorCommand | DriftCommand | FoundCommand)): Outcome {
  return done(target.by === "id" ? target.id : 0);
}
