/** Walks over all maps in pieces, each in a turn of the event loop (`turn_queue.ts`). */

import { u32Key } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";
import type { State } from "../syscall/state.ts";
import { Turns } from "./turn_queue.ts";

/** The number of maps visited in one turn, which takes the engine some milliseconds. */
export const MAPS_A_TURN = 512;

const TURNS = new Turns();

/**
 * Resolves in a later turn of the event loop, after messages that have arrived and after the pieces of other queries.
 */
export function nextTurn(): Promise<void> {
  return TURNS.take();
}

/**
 * Visits all maps, ascending by id, some in each turn, or as many as `most`. A map that changes after its visit is not
 * visited again.
 */
export async function visitMaps(
  state: State,
  visit: (map: MapRecord) => void,
  most = Number.POSITIVE_INFINITY,
): Promise<void> {
  let visited = 0;
  for (let after = 0, more = true; more; ) {
    await nextTurn();
    more = false;
    let left = MAPS_A_TURN;
    for (const [, map] of state.maps.from(u32Key(after + 1))) {
      if (visited === most) return;
      more = left-- === 0;
      if (more) break;
      visited++;
      after = map.id;
      visit(map);
    }
  }
}
