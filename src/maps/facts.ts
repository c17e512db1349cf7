/** Facts of a map type by its number, as records and attrs have it. Each predicate reads the type's row. */

import { lruShapeOf } from "./lru_shape.ts";
import type { MapRecord, MirrorShape } from "./map.ts";
import type { MapFacts } from "./map_facts.ts";
import { mapType } from "./types.ts";

/** undefined: the kernel has no such type. */
export function factsOf(type: number): MapFacts | undefined {
  return mapType(type)?.facts;
}

export function isPerCpu(type: number): boolean {
  return factsOf(type)?.perCpu === true;
}

export function isOfMaps(type: number): boolean {
  return factsOf(type)?.value?.answers === "map";
}

/** Whether an update of a full map evicts an element. */
export function isLru(type: number): boolean {
  return factsOf(type)?.evicts === true;
}

/** Whether elements are deleted together with a network interface. */
export function sendsToInterfaces(type: number): boolean {
  return factsOf(type)?.toInterfaces === true;
}

/** The shape of an LRU map's kernel map; null for other maps. */
export function mirrorShapeOf(map: Pick<MapRecord, "type" | "mirrorShape" | "adopted">): MirrorShape | null {
  return isLru(map.type) ? lruShapeOf(map) : null;
}
