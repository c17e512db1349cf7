import type { DriftPolicyCommand, Origin } from "./command.ts";
import { openMap, replayedMap } from "./guards.ts";
import { done, failed, isRefusal, type Outcome } from "./outcome.ts";
import type { State } from "./state.ts";

type Request = Origin & DriftPolicyCommand;

/** How often a map is compared with its kernel map from now on, and what is done about what is found. */
export function setDriftPolicy(state: State, command: Request): Outcome {
  const map = openMap(state, command, command.target);
  if (isRefusal(map)) return failed(map);
  state.setDrift(map.map.id, command.attr);
  return done(map.map.id);
}

export function redoDriftPolicy(state: State, { attr }: Request, outcome: Outcome): void {
  if (outcome.errno === 0) state.setDrift(replayedMap(state, outcome.map).map.id, attr);
}
