import { CMD } from "../abi/service.ts";
import { type EventRow, rowEvent } from "../log/event.ts";
import { type EventFilter, matches } from "../log/event_filter.ts";
import { effectsIn, touchedKeys } from "../log/event_subjects.ts";
import type { CreateCommand } from "../syscall/command.ts";
import type { Shape } from "./ids.ts";

/** Which events are replayed: those that match, as GET /v1/events has them. */
export interface Selection extends EventFilter {
  /** Events between these two, neither included. */
  readonly afterSeq?: number;
  readonly beforeSeq?: number;
}

/** Whether fields other than the range are given: then commands between those selected are missing. */
export function isFiltered({ map, session, caller, cmd, errno, key, changed, failed }: Selection): boolean {
  return [map, session, caller, cmd, errno, key, changed, failed].some((field) => field !== undefined);
}

/** Whether an event lies behind the range, so that no later one is in it. */
export function isBehind({ untilUs, beforeSeq }: Selection, row: EventRow): boolean {
  return (untilUs !== undefined && row.time_us > untilUs) || (beforeSeq !== undefined && row.seq >= beforeSeq);
}

/** `shape`: of the map that the event is about, to take a batch's keys apart. */
export function isSelected(selection: Selection, row: EventRow, shape: Shape | undefined): boolean {
  const { key, afterSeq = 0, sinceUs = Number.NEGATIVE_INFINITY } = selection;
  return (
    row.seq > afterSeq &&
    !isBehind(selection, row) &&
    row.time_us >= sinceUs &&
    matches(row, selection) &&
    (key === undefined || hasKey(row, key, shape))
  );
}

function hasKey(row: EventRow, wanted: Buffer, shape: Shape | undefined): boolean {
  const keys = touchedKeys(row, effectsIn(row), () => shape?.keySize);
  return keys.some((key) => key.subarray(0, wanted.length).equals(wanted));
}

/** The shape of a map that an event has created, or null. */
export function createdShape(row: EventRow): Shape | null {
  if (row.cmd !== CMD.BPF_MAP_CREATE || row.errno !== 0) return null;
  const { attr } = rowEvent(row).command as CreateCommand;
  return { type: attr.mapType, keySize: attr.keySize, valueSize: attr.valueSize };
}
