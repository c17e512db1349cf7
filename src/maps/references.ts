/** Numbers in keys and values that differ between two mapledgers: descriptors, ids and cookies. */

import { factsOf } from "./facts.ts";
import type { IdKind } from "./map_facts.ts";

const FD_BYTES = 4;
const CGROUP_ID_BYTES = 8;

export function fdInValue(mapType: number, valueBytes: number): number | null {
  const at = factsOf(mapType)?.value?.at;
  return at === undefined || valueBytes < at + FD_BYTES ? null : at;
}

/** Whether reads show ids of objects in keys or values, while updates take descriptors. */
export function showsIds(mapType: number, valueBytes: number): boolean {
  return fdInValue(mapType, valueBytes) !== null || hasFdKeys(mapType);
}

export function hasFdKeys(mapType: number): boolean {
  return (factsOf(mapType)?.keyFd ?? null) !== null;
}

export function hasCgroupKeys(mapType: number, keyBytes: number): boolean {
  return factsOf(mapType)?.cgroupKeys === true && keyBytes >= CGROUP_ID_BYTES;
}

/** The place of an id in a key or value that was answered, and the kind of the id. */
export interface AnsweredId {
  readonly at: number;
  readonly bytes: number;
  readonly kind: IdKind;
}

export function idInValue(mapType: number, valueBytes: number): AnsweredId | null {
  const named = factsOf(mapType)?.value ?? null;
  if (named === null || named.answers === null || valueBytes < named.at + named.bytes) return null;
  return { at: named.at, bytes: named.bytes, kind: named.answers };
}

export function idInKey(mapType: number, keyBytes: number): AnsweredId | null {
  return hasCgroupKeys(mapType, keyBytes) ? { at: 0, bytes: CGROUP_ID_BYTES, kind: "cgroup" } : null;
}
