import { elementsPrefix, NO_BATCHES, noLookupAndDelete, USUAL } from "./common.ts";
import type { MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

function neverStored(): never {
  throw new Error("without_elements: such a map has none");
}

/** The part of a row for types whose elements only programs can make, or that have none. */
export const NEVER_FILLED = {
  put: neverStored,
  remove: neverStored,
  cellOf: elementsPrefix,
  element: () => null,
} as const satisfies Partial<MapType>;

/** The row of a type without elements. `lookup`: the refusal of lookups; `others`: of the other operations. */
export function withoutElements(lookup: Refusal, others: Refusal) {
  return {
    ...USUAL,
    lookup: () => lookup,
    update: () => others,
    delete: () => others,
    nextKey: () => others,
    lookupAndDelete: noLookupAndDelete,
    batch: NO_BATCHES,
    ...NEVER_FILLED,
    stored: () => [],
  } as const satisfies Partial<MapType>;
}

/** The refusal of ring buffers. */
export const RING_ONLY = refuse("ENOTSUPP", "a ring buffer has no elements");
