/**
 * Commands about the kernel maps that follow the ledger's maps. The mirror carries them out; the state keeps only which
 * kernel map an adopted map follows, and whether an operator must decide whose values are right.
 */

import { CMD } from "../abi/service.ts";
import type { DriftPolicy, MapRecord } from "../maps/map.ts";
import { isRefusal, refuse } from "../maps/refusal.ts";
import type {
  DecideCommand,
  DriftPolicyCommand,
  FollowCommand,
  FreedCommand,
  KernelMapCommand,
  Origin,
  RepinCommand,
  TakeOverCommand,
} from "./command.ts";
import { openMap, replayedMap } from "./guards.ts";
import { done, failed, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

/** Sets a map's drift policy and the interval between comparisons. */
export function setDriftPolicy(state: State, command: Origin & DriftPolicyCommand): Outcome {
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  setDrift(state, map.map, command.attr);
  return done(map.map.id);
}

export function redoDriftPolicy(state: State, { attr }: DriftPolicyCommand, outcome: Outcome): void {
  if (outcome.errno === 0) setDrift(state, replayedMap(state, outcome.map).map, attr);
}

type OnMap = FollowCommand | DecideCommand | KernelMapCommand | RepinCommand;

/** A command that refers to a map and changes nothing in the state. */
export function onMap(state: State, command: Origin & OnMap): Outcome {
  const map = openMap(state, command, command.target);
  return isRefusal(map) ? failed(map) : done(map.map.id);
}

export function followKernelMap(state: State, command: Origin & FollowCommand): Outcome {
  return onAdopted(state, command, "only an adopted map follows another kernel map");
}

export function releaseKernelMap(state: State, command: Origin & KernelMapCommand): Outcome {
  return onAdopted(state, command, "the map was not adopted: there is nothing to release");
}

export function recreateKernelMap(state: State, command: Origin & KernelMapCommand): Outcome {
  const outcome = onMap(state, command);
  redoOnMap(state, command, outcome);
  return outcome;
}

export function decideDrift(state: State, command: Origin & DecideCommand): Outcome {
  const outcome = onMap(state, command);
  redoOnMap(state, command, outcome);
  return outcome;
}

function onAdopted(state: State, command: Origin & OnMap, otherwise: string): Outcome {
  const outcome = onMap(state, command);
  if (outcome.errno !== 0) return outcome;
  if ((state.map(outcome.map) as MapRecord).adopted === undefined)
    return failed(refuse("EINVAL", otherwise), outcome.map);
  redoOnMap(state, command, outcome);
  return outcome;
}

export function redoOnMap(state: State, command: OnMap, outcome: Outcome): void {
  if (outcome.errno !== 0) return;
  const map = changedBy(command, state.map(outcome.map) as MapRecord);
  if (map !== null) state.changeMap(map);
}

/** The record after a command has succeeded; null: as before. */
function changedBy(command: OnMap, map: MapRecord): MapRecord | null {
  switch (command.cmd) {
    case CMD.MIRROR_FOLLOW:
      return { ...map, adopted: command.attr.kernel_id };
    case CMD.MIRROR_DECIDE:
      return command.attr.keys === null ? decided(map) : null;
    case CMD.MIRROR_RELEASE: {
      const { adopted: _, adoptedPin: __, onReplace: ___, ...kept } = map;
      return { ...kept, released: true };
    }
    case CMD.MIRROR_RECREATE: {
      const { adopted: _, adoptedPin: __, onReplace: ___, released: ____, ...kept } = map;
      return kept;
    }
    case CMD.MIRROR_REPIN:
      return null;
  }
}

function setDrift(state: State, map: MapRecord, drift: DriftPolicy): void {
  state.changeMap({ ...decided(map), drift });
}

function decided({ undecided: _, ...map }: MapRecord): MapRecord {
  return map;
}

/** Makes every map's drift policy `report` until an operator decides. */
export function takeOver(state: State, _command: Origin & TakeOverCommand): Outcome {
  for (const [, map] of [...state.maps.from("")]) state.changeMap({ ...map, undecided: true });
  return done(0);
}

export function noteFormer(state: State, { attr: { map, kernel_id, boot } }: Origin & FreedCommand): Outcome {
  state.former.set(kernel_id, { map, boot });
  return done(map);
}
