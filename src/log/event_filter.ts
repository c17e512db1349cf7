/** The filter that GET /v1/events, streams, exports and replays share. */

import { commandFacts } from "../syscall/command_facts.ts";
import type { EventRow } from "./event.ts";
import { effectsIn, hasChanged, touchedMaps } from "./event_subjects.ts";

/** A filter of events: an event matches if it matches every field that is given. */
export interface EventFilter {
  /** The map that the command named, or that lost elements or was freed by it. */
  readonly map?: number;
  readonly session?: number;
  readonly caller?: string;
  readonly cmd?: number;
  /** 0: events that succeeded. */
  readonly errno?: number;
  /**
   * The beginning of the key, of any key of a batch, or of a key that was stored, evicted, or deleted with its object.
   */
  readonly key?: Buffer;
  /**
   * A stretch of time in microseconds since the epoch, both ends included. It begins after the last event whose time is
   * before `sinceUs`, and ends with the last event whose time is not after `untilUs`. So it may contain events of other
   * times, if the clock was ahead and was put back.
   */
  readonly sinceUs?: number;
  readonly untilUs?: number;
  /** Only commands that may change a map. */
  readonly changing?: boolean;
  /** true: only events that changed a map, an element, a pin or a directory; false: only the others. */
  readonly changed?: boolean;
  /** true: only events that were refused; false: only events that succeeded. */
  readonly failed?: boolean;
}

/**
 * Whether an event matches every field of the filter but `key`, `sinceUs` and `untilUs`: for those the event alone is
 * not enough (a batch's key size, other events' times).
 */
export function matches(row: EventRow, filter: EventFilter): boolean {
  const { map, session, caller, cmd, errno, changed, failed } = filter;
  return (
    (session === undefined || row.session === session) &&
    (caller === undefined || row.caller === caller) &&
    (cmd === undefined || row.cmd === cmd) &&
    (errno === undefined || row.errno === errno) &&
    !(filter.changing === true && commandFacts(row.cmd)?.leavesMaps === true) &&
    (failed === undefined || (row.errno !== 0) === failed) &&
    (changed === undefined || hasChanged(row, effectsIn(row)) === changed) &&
    (map === undefined || row.map === map || touchedMaps(row, effectsIn(row)).has(map))
  );
}
