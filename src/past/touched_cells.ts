/**
 * The cells of a map that a range of events has changed, found by redoing the events. For a few events between two moments this
 * costs less than comparing all elements of a large map.
 */

import { setImmediate } from "node:timers/promises";
import { IGNORE } from "../engine/followers.ts";
import { PendingCells } from "../engine/pending.ts";
import type { CellKey, Cells } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import type { Host } from "../maps/map.ts";
import { redo } from "../syscall/execute.ts";
import { State } from "../syscall/state.ts";
import type { PastLog } from "./history.ts";

/** The most events that are redone, and the most changes of cells: one event may have ten thousand elements. */
const EVENTS_MAX = 20_000;
const CHANGES_MAX = 100_000;
/** The most bytes of changed cells, of all maps, that are held. */
const BYTES_MAX = 64 * 1024 * 1024;

export interface Range {
  readonly map: number;
  /** The range begins after this event. */
  readonly after: number;
  /** The last event of the range. */
  readonly until: number;
}

/**
 * Keys of the cells of the map's elements, ascending, that the events have changed; some may be as they were. null: there are too
 * many events or changes, or the events are not at hand. `cells`: right after the event `after`.
 */
export async function touchedCells(
  log: PastLog,
  cells: Cells,
  host: Host,
  { map, after, until }: Range,
): Promise<readonly CellKey[] | null> {
  if (until - after > EVENTS_MAX || after < log.atHandAfter) return null;
  const prefix = elementsPrefix({ id: map });
  const touched = new Set<CellKey>();
  let changes = 0;
  const changed = overlay(cells, after);
  changed.onChange((cell) => {
    changes++;
    if (cell.startsWith(prefix)) touched.add(cell);
  });
  const state = new State(changed, host, IGNORE);
  for (let at = after; at < until; await setImmediate()) {
    const { events, until: read } = await log.changesAfter(at, until);
    if (read === at || after < log.atHandAfter) return null;
    at = read;
    for (const { command, outcome } of events) {
      redo(state, command, outcome);
      changed.settle();
      if (changes > CHANGES_MAX || changed.bytes > BYTES_MAX) return null;
    }
  }
  return [...touched].sort();
}

/** Cells that can be changed, over the cells of a past moment. The changes are never written. */
function overlay(cells: Cells, seq: number): PendingCells {
  return new PendingCells({
    get: (key) => cells.get(key),
    range: (from, to) => cells.range(from, to),
    seq,
    write: () => Promise.reject(new Error("writing to an earlier moment")),
  });
}
