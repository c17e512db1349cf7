import { type MapReference, referenced } from "../engine/map_reference.ts";
import type { MapRecord } from "../maps/map.ts";
import { mapCell, type State } from "../syscall/state.ts";
import type { History } from "./history.ts";

/** A map that lives, or has lived. */
export interface MapEver {
  /** As it was when it last lived. */
  readonly map: MapRecord;
  /** The event that freed it; null: it lives. */
  readonly freed: number | null;
}

/** What a reference means right after an event: by id also a map that was freed before. More than one id: several have the name. */
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
