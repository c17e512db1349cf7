/**
 * Times in the log ascend between CLOCK_STEP events. If the clock was put back, the writer of the next event (the
 * engine, or a `mapledger` command) writes a CLOCK_STEP event before it. The table of events has an SQL index of these
 * events only. With it, `sqlite/log_times.ts` finds a moment by a binary search of each stretch between two of them,
 * the last stretch first.
 */

import { SERVICE_CMD } from "../abi/service.ts";
import type { ClockStepCommand } from "../syscall/command.ts";
import { timeText } from "./event_json.ts";

/**
 * The largest step back of the clock, in microseconds, that needs no CLOCK_STEP event. Until the clock has caught up,
 * events get the time of the event before them.
 */
const UNTOLD_US = 10_000_000;

/**
 * The time of the next event, in microseconds since the epoch: `nowUs`, but not before the last event's time. If the
 * clock was put back by more than UNTOLD_US, `step` is the CLOCK_STEP command to log first, with the same time; null:
 * none is needed.
 */
export function nextTime(
  nowUs: number,
  lastUs: number,
): { readonly timeUs: number; readonly step: ClockStepCommand | null } {
  if (lastUs - nowUs <= UNTOLD_US) return { timeUs: Math.max(nowUs, lastUs), step: null };
  const attr = { was: timeText(lastUs), is: timeText(nowUs) };
  return { timeUs: nowUs, step: { cmd: SERVICE_CMD.CLOCK_STEP, attr } };
}
