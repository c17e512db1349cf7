import { SERVICE_CMD } from "../abi/service.ts";
import type { ClockStepCommand } from "../syscall/command.ts";
import { timeText } from "./event_json.ts";

/** By how much a clock may be put back, microseconds, without an event that says so: until then events have the time of the one before. */
const UNTOLD_US = 10_000_000;

/**
 * The time of what comes next, by the clock and by the last event; microseconds since the epoch. `step`: what the event before it
 * says, at the same time; null: times ascend.
 */
export function nextTime(
  nowUs: number,
  lastUs: number,
): { readonly timeUs: number; readonly step: ClockStepCommand | null } {
  if (lastUs - nowUs <= UNTOLD_US) return { timeUs: Math.max(nowUs, lastUs), step: null };
  const attr = { was: timeText(lastUs), is: timeText(nowUs) };
  return { timeUs: nowUs, step: { cmd: SERVICE_CMD.CLOCK_STEP, attr } };
}
