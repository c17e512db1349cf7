import type { EventRow } from "./event.ts";
import { effectsIn, hasChanged, READS, touchedMaps } from "./event_subjects.ts";

/** Which events: those that match every field given. */
export interface EventFilter {
  /** The map that was meant, or that lost elements or its life by it. */
  readonly map?: number;
  readonly session?: number;
  readonly caller?: string;
  readonly cmd?: number;
  /** 0: those that succeeded. */
  readonly errno?: number;
  /** What the key begins with; of a batch, any of its keys; or of a key that was stored or evicted. */
  readonly key?: Buffer;
  /**
   * From this moment on, and up to that one; microseconds since the epoch, both included. That is behind the last event stamped before
   * the one, and up to the last that is stamped at or before the other: a clock that was put back was ahead until then.
   */
  readonly sinceUs?: number;
  readonly untilUs?: number;
  /** Only commands that may have changed a map. */
  readonly changing?: boolean;
  /** Only events that have changed a map, an element, a pin or a directory; false: only others. */
  readonly changed?: boolean;
  /** Only events that were refused; false: only those that succeeded. */
  readonly failed?: boolean;
}

/** Whether an event matches all that can be told of it alone: everything but `key`, and its time, which others' may contradict. */
export function matches(row: EventRow, filter: EventFilter): boolean {
  const { map, session, caller, cmd, errno, changed, failed } = filter;
  return (
    (session === undefined || row.session === session) &&
    (caller === undefined || row.caller === caller) &&
    (cmd === undefined || row.cmd === cmd) &&
    (errno === undefined || row.errno === errno) &&
    !(filter.changing === true && READS.has(row.cmd)) &&
    (failed === undefined || (row.errno !== 0) === failed) &&
    (changed === undefined || hasChanged(row, effectsIn(row)) === changed) &&
    (map === undefined || row.map === map || touchedMaps(row, effectsIn(row)).has(map))
  );
}
