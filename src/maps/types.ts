/**
 * All map types. Each type has a file that ends in the type's row, a MapType. The row tells in which cells the elements
 * are and how a cell becomes an element, so pages, history and diffs need nothing else. The files that families share:
 * `hash_table.ts` (keys in buckets), `index_keys.ts` (slots by index), `holder_array.ts` (slots that hold objects or
 * maps), `sockets.ts`, `target_slots.ts` (where packets go), `local_storage.ts`, `line.ts` (queues and stacks),
 * `inner_maps.ts`.
 *
 * CONTRIBUTING.md says how to add a type.
 */

import { BPF_MAP_TYPE, type MapTypeName } from "../abi/bpf.ts";
import { arena } from "./arena.ts";
import { array } from "./array.ts";
import { arrayOfMaps } from "./array_of_maps.ts";
import { bloomFilter } from "./bloom_filter.ts";
import { cgroupArray } from "./cgroup_array.ts";
import { cgroupStorage } from "./cgroup_storage.ts";
import { cgrpStorage } from "./cgrp_storage.ts";
import { cpumap } from "./cpumap.ts";
import { devmap } from "./devmap.ts";
import { devmapHash } from "./devmap_hash.ts";
import { hash } from "./hash.ts";
import { hashOfMaps } from "./hash_of_maps.ts";
import { inodeStorage } from "./inode_storage.ts";
import { lpmTrie } from "./lpm_trie.ts";
import { lruHash } from "./lru_hash.ts";
import { lruPercpuHash } from "./lru_percpu_hash.ts";
import type { MapType } from "./map.ts";
import { percpuArray } from "./percpu_array.ts";
import { percpuCgroupStorage } from "./percpu_cgroup_storage.ts";
import { percpuHash } from "./percpu_hash.ts";
import { perfEventArray } from "./perf_event_array.ts";
import { progArray } from "./prog_array.ts";
import { queue } from "./queue.ts";
import { reuseportSockarray } from "./reuseport_sockarray.ts";
import { ringbuf } from "./ringbuf.ts";
import { skStorage } from "./sk_storage.ts";
import { sockhash } from "./sockhash.ts";
import { sockmap } from "./sockmap.ts";
import { stack } from "./stack.ts";
import { stackTrace } from "./stack_trace.ts";
import { structOps } from "./struct_ops.ts";
import { taskStorage } from "./task_storage.ts";
import { userRingbuf } from "./user_ringbuf.ts";
import { xskmap } from "./xskmap.ts";

/** The rows of all map types that the kernel has. */
const ROWS: Readonly<Record<Exclude<MapTypeName, "BPF_MAP_TYPE_UNSPEC">, MapType>> = {
  BPF_MAP_TYPE_HASH: hash,
  BPF_MAP_TYPE_ARRAY: array,
  BPF_MAP_TYPE_PROG_ARRAY: progArray,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: perfEventArray,
  BPF_MAP_TYPE_PERCPU_HASH: percpuHash,
  BPF_MAP_TYPE_PERCPU_ARRAY: percpuArray,
  BPF_MAP_TYPE_STACK_TRACE: stackTrace,
  BPF_MAP_TYPE_CGROUP_ARRAY: cgroupArray,
  BPF_MAP_TYPE_LRU_HASH: lruHash,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: lruPercpuHash,
  BPF_MAP_TYPE_LPM_TRIE: lpmTrie,
  BPF_MAP_TYPE_ARRAY_OF_MAPS: arrayOfMaps,
  BPF_MAP_TYPE_HASH_OF_MAPS: hashOfMaps,
  BPF_MAP_TYPE_DEVMAP: devmap,
  BPF_MAP_TYPE_SOCKMAP: sockmap,
  BPF_MAP_TYPE_CPUMAP: cpumap,
  BPF_MAP_TYPE_XSKMAP: xskmap,
  BPF_MAP_TYPE_SOCKHASH: sockhash,
  BPF_MAP_TYPE_CGROUP_STORAGE: cgroupStorage,
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: reuseportSockarray,
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: percpuCgroupStorage,
  BPF_MAP_TYPE_QUEUE: queue,
  BPF_MAP_TYPE_STACK: stack,
  BPF_MAP_TYPE_SK_STORAGE: skStorage,
  BPF_MAP_TYPE_DEVMAP_HASH: devmapHash,
  BPF_MAP_TYPE_STRUCT_OPS: structOps,
  BPF_MAP_TYPE_RINGBUF: ringbuf,
  BPF_MAP_TYPE_INODE_STORAGE: inodeStorage,
  BPF_MAP_TYPE_TASK_STORAGE: taskStorage,
  BPF_MAP_TYPE_BLOOM_FILTER: bloomFilter,
  BPF_MAP_TYPE_USER_RINGBUF: userRingbuf,
  BPF_MAP_TYPE_CGRP_STORAGE: cgrpStorage,
  BPF_MAP_TYPE_ARENA: arena,
};

const BY_NUMBER: readonly (MapType | undefined)[] = Object.entries(ROWS).reduce((rows: MapType[], [name, row]) => {
  rows[BPF_MAP_TYPE[name as MapTypeName]] = row;
  return rows;
}, []);

/** The row of a map type; undefined if the kernel has no such type. */
export function mapType(number: number): MapType | undefined {
  return BY_NUMBER[number];
}
