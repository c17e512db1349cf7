/**
 * Two shapes of an LRU map's kernel map. The ledger evicts strictly the least recently updated element, and only if the
 * map is full (`recent_hash.ts`); the kernel promises less, and evicts earlier. An exact kernel map has the definition
 * that was asked for, so programs find the map that they expect; the kernel then evicts other elements than the ledger.
 * Comparisons find these elements as drift, and the ledger handles them by the map's drift policy. A roomy kernel map
 * is made so large that it never evicts by itself, at the price of another definition. The creation's event records the
 * shape.
 */

import { BPF_F } from "../abi/bpf.ts";
import type { MapRecord, MirrorShape } from "./map.ts";

/**
 * The shape of an LRU map's kernel map. Logs of earlier releases have no `mirrorShape`: those maps are roomy, unless
 * they were adopted.
 */
export function lruShapeOf({ mirrorShape, adopted }: Pick<MapRecord, "mirrorShape" | "adopted">): MirrorShape {
  return mirrorShape ?? (adopted === undefined ? "roomy" : "exact");
}

/** Whether each CPU has its own LRU list. */
export function hasOwnLists(mapFlags: number): boolean {
  return (mapFlags & BPF_F.BPF_F_NO_COMMON_LRU) !== 0;
}

/**
 * The max_entries of the LRU map that the kernel creates. If each CPU has its own list, all lists get the same length:
 * 1023 becomes 1024 on two CPUs. htab_map_alloc(), kernel/bpf/hashtab.c.
 */
export function lruEntries({ maxEntries, mapFlags }: Pick<MapRecord, "maxEntries" | "mapFlags">, cpus: number): number {
  if (!hasOwnLists(mapFlags)) return maxEntries;
  const lists = maxEntries / cpus;
  const up = Math.ceil(lists) * cpus;
  return up < 2 ** 32 ? up : Math.floor(lists) * cpus;
}
