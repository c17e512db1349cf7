import type { EventRow } from "./event.ts";
import { effectsIn, READS, touchedMaps } from "./touched.ts";

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
  /** From this moment on, and up to that one; microseconds since the epoch, both included. */
  readonly sinceUs?: number;
  readonly untilUs?: number;
  /** Only commands that may have changed a map. */
  readonly changing?: boolean;
}

/** Whether an event matches all that can be told without an index: everything but `key`. */
export function matches(row: EventRow, filter: EventFilter): boolean {
  const { map, session, caller, cmd, errno, sinceUs = 0, untilUs = Number.POSITIVE_INFINITY } = filter;
  return (
    (session === undefined || row.session === session) &&
    (caller === undefined || row.caller === caller) &&
    (cmd === undefined || row.cmd === cmd) &&
    (errno === undefined || row.errno === errno) &&
    row.time_us >= sinceUs &&
    row.time_us <= untilUs &&
    !(filter.changing === true && READS.has(row.cmd)) &&
    (map === undefined || row.map === map || touchedMaps(row, effectsIn(row)).has(map))
  );
}
