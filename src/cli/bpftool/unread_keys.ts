/** What a dump of bpftool's shows of keys that have no value, or one that the kernel does not show, by map type. */

import type { MapTypeName } from "../../abi/bpf.ts";
import type { Errno } from "../../abi/errno.ts";

export interface DumpRule {
  /** Whether the kernel walks the map's keys. */
  readonly walks: boolean;
  /** Lookups of elements that are present are refused with this errno. */
  readonly refused: Errno | null;
  /** The walk has every index below max_entries; lookups of those without an element fail with this errno. */
  readonly absent: Errno | null;
  /** A lookup shows a socket by its cookie: sock_map_lookup_sys(), net/core/sock_map.c, wants room for it. */
  readonly cookies: boolean;
}

const PLAIN: DumpRule = { walks: true, refused: null, absent: null, cookies: false };
/** notsupp_get_next_key() and its like: queues, ring buffers, storages of sockets, ... */
const NOT_WALKED: DumpRule = { ...PLAIN, walks: false };
const BY_INDEX: DumpRule = { ...PLAIN, absent: "ENOENT" };

const SOCKET_COOKIE_BYTES = 8;

const RULES: Partial<Record<MapTypeName, DumpRule>> = {
  BPF_MAP_TYPE_QUEUE: NOT_WALKED,
  BPF_MAP_TYPE_STACK: NOT_WALKED,
  BPF_MAP_TYPE_BLOOM_FILTER: NOT_WALKED,
  BPF_MAP_TYPE_RINGBUF: NOT_WALKED,
  BPF_MAP_TYPE_USER_RINGBUF: NOT_WALKED,
  BPF_MAP_TYPE_ARENA: NOT_WALKED,
  BPF_MAP_TYPE_SK_STORAGE: NOT_WALKED,
  BPF_MAP_TYPE_INODE_STORAGE: NOT_WALKED,
  BPF_MAP_TYPE_TASK_STORAGE: NOT_WALKED,
  BPF_MAP_TYPE_CGRP_STORAGE: NOT_WALKED,
  BPF_MAP_TYPE_DEVMAP: BY_INDEX,
  BPF_MAP_TYPE_CPUMAP: BY_INDEX,
  BPF_MAP_TYPE_SOCKMAP: { ...BY_INDEX, cookies: true },
  BPF_MAP_TYPE_SOCKHASH: { ...PLAIN, cookies: true },
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: { ...BY_INDEX, cookies: true },
  BPF_MAP_TYPE_XSKMAP: { ...BY_INDEX, refused: "EOPNOTSUPP" },
  // bpf_fd_array_map_lookup_elem(), kernel/bpf/arraymap.c
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: { ...BY_INDEX, refused: "ENOTSUPP" },
  BPF_MAP_TYPE_CGROUP_ARRAY: { ...BY_INDEX, refused: "ENOTSUPP" },
};

export function dumpRule(type: MapTypeName, valueBytes: number): DumpRule {
  const rule = RULES[type] ?? PLAIN;
  return rule.cookies && valueBytes < SOCKET_COOKIE_BYTES ? { ...rule, refused: "ENOSPC" } : rule;
}
