import { BPF_F } from "../abi/bpf.ts";
import type { MapRecord, MirrorShape } from "./map.ts";

/** Of an LRU map. A record or an attr without a shape is of a log that has none: roomy, unless the kernel map was there already. */
export function lruShapeOf({ mirrorShape, adopted }: Pick<MapRecord, "mirrorShape" | "adopted">): MirrorShape {
  return mirrorShape ?? (adopted === undefined ? "roomy" : "exact");
}

/** Whether each CPU has an LRU list of its own. */
export function hasOwnLists(mapFlags: number): boolean {
  return (mapFlags & BPF_F.BPF_F_NO_COMMON_LRU) !== 0;
}

/**
 * The max_entries of the LRU map that the kernel makes: if each CPU has a list of its own, all lists have equally many
 * elements. For example, 1023 become 1024 on two CPUs. htab_map_alloc(), kernel/bpf/hashtab.c.
 */
export function lruEntries({ maxEntries, mapFlags }: Pick<MapRecord, "maxEntries" | "mapFlags">, cpus: number): number {
  if (!hasOwnLists(mapFlags)) return maxEntries;
  const lists = maxEntries / cpus;
  const up = Math.ceil(lists) * cpus;
  return up < 2 ** 32 ? up : Math.floor(lists) * cpus;
}
