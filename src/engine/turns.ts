/** Walks over all maps in pieces, each in a turn of the event loop (`turn_queue.ts`). */

import { u32Key } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";
import type { State } from "../syscall/state.ts";
import { Turns } from "./turn_queue.ts";

/** Maps that are asked about in one turn: some milliseconds of the engine's. */
export const MAPS_A_TURN = 512;

const TURNS = new Turns();

/** Until what others have sent meanwhile has had its turn, and so have other questions. */
export function nextTurn(): Promise<void> {
  return TURNS.take();
}

/** Visits all maps, ascending by id, a piece a turn: what comes or goes meanwhile behind the piece is not seen. */
export async function visitMaps(state: State, visit: (map: MapRecord) => void): Promise<void> {
  for (let after = 0, more = true; more; ) {
    await nextTurn();
    more = false;
    let left = MAPS_A_TURN;
    for (const [, map] of state.maps.from(u32Key(after + 1))) {
      more = left-- === 0;
      if (more) break;
      after = map.id;
      visit(map);
    }
  }
}
