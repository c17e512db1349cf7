import { BPF_MAP_TYPE as TYPE } from "../abi/bpf.ts";

/** What stands in a map's keys and values and is another number in every mapledger: descriptors, ids, cookies. */

/** Numbers that are given by whoever keeps the maps. */
export type IdKind = "map" | "prog" | "cookie" | "btf" | "cgroup";

interface Holding {
  /** Where in a value; `bytes` is what an answer has there. */
  readonly at: number;
  readonly bytes: 4 | 8;
  /** What a lookup answers in the descriptor's place; null: these maps answer no lookups. */
  readonly answers: IdKind | null;
}

const MAP: Holding = { at: 0, bytes: 4, answers: "map" };
const SOCKET: Holding = { at: 0, bytes: 8, answers: "cookie" };
const UNSEEN: Holding = { at: 0, bytes: 4, answers: null };
/** struct bpf_devmap_val and bpf_cpumap_val: a program behind four bytes of another kind. */
const SECOND_PROG: Holding = { at: 4, bytes: 4, answers: "prog" };

/** Types whose values are given as descriptors. */
const VALUES: ReadonlyMap<number, Holding> = new Map([
  [TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS, MAP],
  [TYPE.BPF_MAP_TYPE_HASH_OF_MAPS, MAP],
  [TYPE.BPF_MAP_TYPE_PROG_ARRAY, { at: 0, bytes: 4, answers: "prog" }],
  [TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY, UNSEEN],
  [TYPE.BPF_MAP_TYPE_CGROUP_ARRAY, UNSEEN],
  [TYPE.BPF_MAP_TYPE_XSKMAP, UNSEEN],
  [TYPE.BPF_MAP_TYPE_SOCKMAP, SOCKET],
  [TYPE.BPF_MAP_TYPE_SOCKHASH, SOCKET],
  [TYPE.BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, SOCKET],
  [TYPE.BPF_MAP_TYPE_DEVMAP, SECOND_PROG],
  [TYPE.BPF_MAP_TYPE_DEVMAP_HASH, SECOND_PROG],
  [TYPE.BPF_MAP_TYPE_CPUMAP, SECOND_PROG],
]);

/** Types whose keys are descriptors. */
const FD_KEYS: ReadonlySet<number> = new Set([
  TYPE.BPF_MAP_TYPE_SK_STORAGE,
  TYPE.BPF_MAP_TYPE_INODE_STORAGE,
  TYPE.BPF_MAP_TYPE_TASK_STORAGE,
  TYPE.BPF_MAP_TYPE_CGRP_STORAGE,
]);

/** Types whose keys begin with a cgroup's id, a u64. */
const CGROUP_KEYS: ReadonlySet<number> = new Set([
  TYPE.BPF_MAP_TYPE_CGROUP_STORAGE,
  TYPE.BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE,
]);

const FD_BYTES = 4;
const CGROUP_ID_BYTES = 8;

export function fdInValue(mapType: number, valueBytes: number): number | null {
  const at = VALUES.get(mapType)?.at;
  return at === undefined || valueBytes < at + FD_BYTES ? null : at;
}

/** Whether what is read of a map shows ids of what its elements hold, where an update takes descriptors. */
export function showsIds(mapType: number, valueBytes: number): boolean {
  return fdInValue(mapType, valueBytes) !== null || hasFdKeys(mapType);
}

export function hasFdKeys(mapType: number): boolean {
  return FD_KEYS.has(mapType);
}

export function hasCgroupKeys(mapType: number, keyBytes: number): boolean {
  return CGROUP_KEYS.has(mapType) && keyBytes >= CGROUP_ID_BYTES;
}

/** An id in what was answered: where, how long, and of what kind. */
export interface AnsweredId {
  readonly at: number;
  readonly bytes: number;
  readonly kind: IdKind;
}

export function idInValue(mapType: number, valueBytes: number): AnsweredId | null {
  const holding = VALUES.get(mapType);
  if (holding === undefined || holding.answers === null || valueBytes < holding.at + holding.bytes) return null;
  return { at: holding.at, bytes: holding.bytes, kind: holding.answers };
}

export function idInKey(mapType: number, keyBytes: number): AnsweredId | null {
  return hasCgroupKeys(mapType, keyBytes) ? { at: 0, bytes: CGROUP_ID_BYTES, kind: "cgroup" } : null;
}
