import { factsOf } from "./facts.ts";
import type { IdKind } from "./map_facts.ts";

/** What stands in a map's keys and values and is another number in every mapledger: descriptors, ids, cookies. */

const FD_BYTES = 4;
const CGROUP_ID_BYTES = 8;

export function fdInValue(mapType: number, valueBytes: number): number | null {
  const at = factsOf(mapType)?.value?.at;
  return at === undefined || valueBytes < at + FD_BYTES ? null : at;
}

/** Whether what is read of a map shows ids of what its elements hold, where an update takes descriptors. */
export function showsIds(mapType: number, valueBytes: number): boolean {
  return fdInValue(mapType, valueBytes) !== null || hasFdKeys(mapType);
}

export function hasFdKeys(mapType: number): boolean {
  return (factsOf(mapType)?.keyFd ?? null) !== null;
}

export function hasCgroupKeys(mapType: number, keyBytes: number): boolean {
  return factsOf(mapType)?.cgroupKeys === true && keyBytes >= CGROUP_ID_BYTES;
}

/** An id in what was answered: where, how long, and of what kind. */
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
