import { type MapReference, referenced } from "../engine/map_reference.ts";
import type { MapRecord } from "../maps/map.ts";
import { mapCell } from "../syscall/map_table.ts";
import type { State } from "../syscall/state.ts";
import type { History } from "./history.ts";

/** A map that exists, or has existed. */
export interface MapEver {
  /** As it was right before it was freed, or as it is. */
  readonly map: MapRecord;
  /** The event that freed it; null: it exists. */
  readonly freed: number | null;
}

/**
 * The map that a reference names right after an event; an id may also name a map that was freed before. `ambiguous`:
 * the ids of several maps with the same name.
 */
export function mapEver(
  history: History,
  stateAt: (seq: number) => State,
  reference: MapReference,
  seq: number,
): MapEver | null | { readonly ambiguous: number[] } {
  const ids = referenced(stateAt(seq), reference);
  const [id] = ids;
  if (ids.length > 1) return { ambiguous: ids };
  if (id === undefined) return null;
  const [newest] = history.versions(mapCell(id), seq);
  if (newest === undefined) return null;
  const freed = newest.bytes === null ? newest.seq : null;
  return { map: stateAt(freed === null ? seq : freed - 1).map(id) as MapRecord, freed };
}
