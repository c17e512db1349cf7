import { CMD } from "../abi/service.ts";
import { type EventRow, rowEvent } from "../log/event.ts";
import { type EventFilter, matches } from "../log/event_filter.ts";
import { effectsIn, touchedKeys } from "../log/event_subjects.ts";
import type { CreateCommand } from "../syscall/command.ts";
import type { Shape } from "./ids.ts";

/** The events to replay: those that match, as in GET /v1/events. */
export interface Selection extends EventFilter {
  /** Only events between these seqs, both excluded. */
  readonly afterSeq?: number;
  readonly beforeSeq?: number;
}

/** Whether fields besides the range are given, so that commands between the selected ones are left out. */
export function isFiltered({ map, session, caller, cmd, errno, key, changed, failed }: Selection): boolean {
  return [map, session, caller, cmd, errno, key, changed, failed].some((field) => field !== undefined);
}

/** Whether an event comes after the range, so that no later one is in it. */
export function isBehind({ untilUs, beforeSeq }: Selection, row: EventRow): boolean {
  return (untilUs !== undefined && row.time_us > untilUs) || (beforeSeq !== undefined && row.seq >= beforeSeq);
}

/** `shape`: the shape of the event's map, for the key size of batches. */
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

/** The shape of the map that an event created, or null. */
export function createdShape(row: EventRow): Shape | null {
  if (row.cmd !== CMD.BPF_MAP_CREATE || row.errno !== 0) return null;
  const { attr } = rowEvent(row).command as CreateCommand;
  return { type: attr.mapType, keySize: attr.keySize, valueSize: attr.valueSize };
}
