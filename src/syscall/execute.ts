import { CMD, cmdName } from "../abi/service.ts";
import { refuse } from "../maps/refusal.ts";
import { batch, elements, redoBatch } from "./batch.ts";
import type { Command } from "./command.ts";
import { createMap, redoCreate } from "./create.ts";
import {
  close,
  dup,
  endSession,
  getFdById,
  getNextId,
  open,
  openSession,
  redoClose,
  redoDup,
  redoEndSession,
  redoGetFdById,
  redoOpen,
  redoOpenSession,
  redoRenewSession,
  renewSession,
} from "./descriptors.ts";
import { deleteElem, freeze, getNextKey, lookupAndDeleteElem, lookupElem, redoElement, updateElem } from "./element.ts";
import { checkSession } from "./guards.ts";
import { getInfo } from "./info.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import { changePath, objGet, objPin, redoChangePath, redoObjGet, redoObjPin } from "./pins.ts";
import type { State } from "./state.ts";

/** Decides a command and does it. Pure: the state is all that it reads and changes, and no caller can make it throw. */
export function execute(state: State, command: Command): Outcome {
  return checkSession(state, command) ?? run(state, command);
}

function run(state: State, command: Command): Outcome {
  if ("unknown" in command) return failed(refuse("EINVAL", `${command.name} is no command on maps`));
  switch (command.cmd) {
    case CMD.BPF_MAP_LOOKUP_ELEM:
      return lookupElem(state, command);
    case CMD.BPF_MAP_UPDATE_ELEM:
      return updateElem(state, command);
    case CMD.BPF_MAP_DELETE_ELEM:
      return deleteElem(state, command);
    case CMD.BPF_MAP_GET_NEXT_KEY:
      return getNextKey(state, command);
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
      return lookupAndDeleteElem(state, command);
    case CMD.BPF_MAP_FREEZE:
      return freeze(state, command);
    case CMD.BPF_MAP_LOOKUP_BATCH:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case CMD.BPF_MAP_UPDATE_BATCH:
    case CMD.BPF_MAP_DELETE_BATCH:
      return batch(state, command);
    case CMD.BPF_MAP_CREATE:
      return createMap(state, command);
    case CMD.BPF_OBJ_PIN:
      return objPin(state, command);
    case CMD.BPF_OBJ_GET:
      return objGet(state, command);
    case CMD.BPF_MAP_GET_NEXT_ID:
      return getNextId(state, command);
    case CMD.BPF_MAP_GET_FD_BY_ID:
      return getFdById(state, command);
    case CMD.BPF_OBJ_GET_INFO_BY_FD:
      return getInfo(state, command);
    case CMD.SESSION_OPEN:
      return openSession(state, command);
    case CMD.SESSION_RENEW:
      return renewSession(state, command);
    case CMD.SESSION_END:
      return endSession(state, command);
    case CMD.CLOSE:
      return close(state, command);
    case CMD.DUP:
      return dup(state, command);
    case CMD.OPEN:
      return open(state, command);
    case CMD.UNLINK:
    case CMD.MKDIR:
    case CMD.RMDIR:
      return changePath(state, command);
    case CMD.MAP_ELEMENTS:
      return elements(state, command);
    case CMD.MIRROR_REFUSED:
    case CMD.MIRROR_RESYNC:
      return done(command.target.by === "id" ? command.target.id : 0);
  }
}

/** Replay: does what an event says has happened, and decides nothing. */
export function redo(state: State, command: Command, outcome: Outcome): void {
  if ("unknown" in command) return;
  switch (command.cmd) {
    case CMD.BPF_MAP_UPDATE_ELEM:
    case CMD.BPF_MAP_DELETE_ELEM:
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
    case CMD.BPF_MAP_FREEZE:
      return redoElement(state, command, outcome);
    case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
    case CMD.BPF_MAP_UPDATE_BATCH:
    case CMD.BPF_MAP_DELETE_BATCH:
      return redoBatch(state, command, outcome);
    case CMD.BPF_MAP_CREATE:
      return redoCreate(state, command, outcome);
    case CMD.BPF_OBJ_PIN:
      return redoObjPin(state, command, outcome);
    case CMD.BPF_OBJ_GET:
      return redoObjGet(state, command, outcome);
    case CMD.BPF_MAP_GET_FD_BY_ID:
      return redoGetFdById(state, command, outcome);
    case CMD.SESSION_OPEN:
      return redoOpenSession(state, command, outcome);
    case CMD.SESSION_RENEW:
      return redoRenewSession(state, command, outcome);
    case CMD.SESSION_END:
      return redoEndSession(state, command, outcome);
    case CMD.CLOSE:
      return redoClose(state, command, outcome);
    case CMD.DUP:
      return redoDup(state, command, outcome);
    case CMD.OPEN:
      return redoOpen(state, command, outcome);
    case CMD.UNLINK:
    case CMD.MKDIR:
    case CMD.RMDIR:
      return redoChangePath(state, command, outcome);
    case CMD.BPF_MAP_LOOKUP_ELEM:
    case CMD.BPF_MAP_GET_NEXT_KEY:
    case CMD.BPF_MAP_LOOKUP_BATCH:
    case CMD.BPF_MAP_GET_NEXT_ID:
    case CMD.BPF_OBJ_GET_INFO_BY_FD:
    case CMD.MAP_ELEMENTS:
    case CMD.MIRROR_REFUSED:
    case CMD.MIRROR_RESYNC:
      return;
    default:
      throw new Error(`replaying ${cmdName((command as Command).cmd) ?? "an unknown command"}: it has no effect to redo`);
  }
}
