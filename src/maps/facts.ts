/** Facts by a map type's number, as records and attrs have it: predicates that read the type's row. */
import { lruShapeOf } from "./lru_shape.ts";
import type { MapRecord, MirrorShape } from "./map.ts";
import type { MapFacts } from "./map_facts.ts";
import { mapType } from "./types.ts";

/** undefined: the kernel has no such type. */
export function factsOf(type: number): MapFacts | undefined {
  return mapType(type)?.facts;
}

/** Whether values of a map of this type are one for each CPU. */
export function isPerCpu(type: number): boolean {
  return factsOf(type)?.perCpu === true;
}

/** Whether it is a map of maps. */
export function isOfMaps(type: number): boolean {
  return factsOf(type)?.value?.answers === "map";
}

/** Whether a full map evicts an element for a new one. */
export function isLru(type: number): boolean {
  return factsOf(type)?.evicts === true;
}

/** Whether elements go with a network interface. */
export function sendsToInterfaces(type: number): boolean {
  return factsOf(type)?.toInterfaces === true;
}

/** The shape of an LRU map's kernel map; null: it is no LRU map. */
export function mirrorShapeOf(map: Pick<MapRecord, "type" | "mirrorShape" | "adopted">): MirrorShape | null {
  return isLru(map.type) ? lruShapeOf(map) : null;
}
