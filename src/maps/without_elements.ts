import { elementsPrefix, NO_BATCHES, noTake, USUAL } from "./common.ts";
import type { MapType } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

function neverStored(): never {
  throw new Error("without_elements: such a map has none");
}

/** For rows of types whose elements only programs make, or nobody. */
export const NEVER_FILLED = {
  put: neverStored,
  remove: neverStored,
  cellOf: elementsPrefix,
  element: () => null,
} as const satisfies Partial<MapType>;

/** Types whose contents only mmap(2) reaches, or none at all: what the kernel refuses, and an empty map for all else. */
export function withoutElements(lookup: Refusal, others: Refusal) {
  return {
    ...USUAL,
    lookup: () => lookup,
    update: () => others,
    delete: () => others,
    nextKey: () => others,
    take: noTake,
    batch: NO_BATCHES,
    ...NEVER_FILLED,
    stored: () => [],
  } as const satisfies Partial<MapType>;
}

/** What a ring buffer refuses. */
export const RING_ONLY = refuse("ENOTSUPP", "a ring buffer has no elements");
