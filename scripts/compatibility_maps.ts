import { BPF_F, type MapTypeName } from "../src/abi/bpf.ts";
import type { OpenKind } from "../src/syscall/command.ts";

/** What the page says of each map type beside what it finds out, and a map of the type to find that out with. */
export interface Sample {
  /** A creation that succeeds. */
  readonly attr: Readonly<Record<string, number>>;
  /** What keys and values are, for the reader. */
  readonly keys: string;
  readonly values: string;
  /** A descriptor that stands for the key or the value, little-endian, in as many bytes as they have. */
  readonly keyFd?: OpenKind | "map";
  readonly valueFd?: OpenKind | "map";
  /** Why what the kernel alone does is refused or left empty here. */
  readonly kernelOnly?: string;
}

export type ServedType = Exclude<MapTypeName, "BPF_MAP_TYPE_UNSPEC">;

const U32 = { key_size: 4, value_size: 4, max_entries: 4 };
const NO_PREALLOC = { map_flags: BPF_F.BPF_F_NO_PREALLOC };
const STORAGE = {
  ...NO_PREALLOC,
  key_size: 4,
  value_size: 8,
  max_entries: 0,
  btf_key_type_id: 1,
  btf_value_type_id: 2,
};
const RING = { max_entries: 4096 };

const PROGRAMS_FILL = "only programs put elements in, and they run inside a kernel";
const ATTACHED = "elements come with a program that is attached to a cgroup, which only a kernel can do";
const RING_MEMORY = "its data is memory that programs and user space share inside a kernel";

export const SAMPLES: Readonly<Record<ServedType, Sample>> = {
  BPF_MAP_TYPE_HASH: { attr: U32, keys: "bytes", values: "bytes" },
  BPF_MAP_TYPE_ARRAY: { attr: { ...U32, map_flags: BPF_F.BPF_F_MMAPABLE }, keys: "index", values: "bytes" },
  BPF_MAP_TYPE_PROG_ARRAY: { attr: U32, keys: "index", values: "fd of a program in, its id out", valueFd: "prog" },
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: { attr: U32, keys: "index", values: "fd of a perf event", valueFd: "perf_event" },
  BPF_MAP_TYPE_PERCPU_HASH: { attr: U32, keys: "bytes", values: "bytes, a slot a CPU" },
  BPF_MAP_TYPE_PERCPU_ARRAY: { attr: U32, keys: "index", values: "bytes, a slot a CPU" },
  BPF_MAP_TYPE_STACK_TRACE: {
    attr: { ...U32, value_size: 32 },
    keys: "stack id",
    values: "frames",
    kernelOnly: PROGRAMS_FILL,
  },
  BPF_MAP_TYPE_CGROUP_ARRAY: { attr: U32, keys: "index", values: "fd of a cgroup", valueFd: "cgroup" },
  BPF_MAP_TYPE_LRU_HASH: { attr: U32, keys: "bytes", values: "bytes" },
  BPF_MAP_TYPE_LRU_PERCPU_HASH: { attr: U32, keys: "bytes", values: "bytes, a slot a CPU" },
  BPF_MAP_TYPE_LPM_TRIE: { attr: { ...U32, ...NO_PREALLOC, key_size: 8 }, keys: "prefixlen and data", values: "bytes" },
  BPF_MAP_TYPE_ARRAY_OF_MAPS: { attr: U32, keys: "index", values: "fd of a map in, its id out", valueFd: "map" },
  BPF_MAP_TYPE_HASH_OF_MAPS: { attr: U32, keys: "bytes", values: "fd of a map in, its id out", valueFd: "map" },
  BPF_MAP_TYPE_DEVMAP: { attr: U32, keys: "index", values: "ifindex, XDP program" },
  BPF_MAP_TYPE_SOCKMAP: {
    attr: { ...U32, value_size: 8 },
    keys: "index",
    values: "fd of a socket in, its cookie out",
    valueFd: "tcp_listen",
  },
  BPF_MAP_TYPE_CPUMAP: { attr: U32, keys: "CPU", values: "queue size, XDP program" },
  BPF_MAP_TYPE_XSKMAP: { attr: U32, keys: "index", values: "fd of an AF_XDP socket", valueFd: "xsk" },
  BPF_MAP_TYPE_SOCKHASH: {
    attr: { ...U32, value_size: 8 },
    keys: "bytes",
    values: "fd of a socket in, its cookie out",
    valueFd: "tcp_listen",
  },
  BPF_MAP_TYPE_CGROUP_STORAGE: {
    attr: { key_size: 8, value_size: 8, max_entries: 0 },
    keys: "cgroup id",
    values: "bytes",
    kernelOnly: ATTACHED,
  },
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: {
    attr: { ...U32, value_size: 8 },
    keys: "index",
    values: "fd of a socket with SO_REUSEPORT in, its cookie out",
    valueFd: "tcp_listen",
  },
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: {
    attr: { key_size: 8, value_size: 8, max_entries: 0 },
    keys: "cgroup id",
    values: "bytes, a slot a CPU",
    kernelOnly: ATTACHED,
  },
  BPF_MAP_TYPE_QUEUE: { attr: { value_size: 4, max_entries: 4 }, keys: "none", values: "bytes" },
  BPF_MAP_TYPE_STACK: { attr: { value_size: 4, max_entries: 4 }, keys: "none", values: "bytes" },
  BPF_MAP_TYPE_SK_STORAGE: { attr: STORAGE, keys: "fd of a socket", values: "bytes", keyFd: "tcp_listen" },
  BPF_MAP_TYPE_DEVMAP_HASH: { attr: U32, keys: "four bytes", values: "ifindex, XDP program" },
  BPF_MAP_TYPE_STRUCT_OPS: {
    attr: { key_size: 4, value_size: 256, max_entries: 1, btf_vmlinux_value_type_id: 1 },
    keys: "0",
    values: "a struct of the kernel's",
    kernelOnly: "its element is a struct of functions of the running kernel: creation says ENOTSUPP",
  },
  BPF_MAP_TYPE_RINGBUF: { attr: RING, keys: "none", values: "none", kernelOnly: RING_MEMORY },
  BPF_MAP_TYPE_INODE_STORAGE: { attr: STORAGE, keys: "any fd", values: "bytes", keyFd: "file" },
  BPF_MAP_TYPE_TASK_STORAGE: { attr: STORAGE, keys: "pidfd", values: "bytes", keyFd: "pidfd_self" },
  BPF_MAP_TYPE_BLOOM_FILTER: { attr: { value_size: 4, max_entries: 4 }, keys: "none", values: "bytes" },
  BPF_MAP_TYPE_USER_RINGBUF: { attr: RING, keys: "none", values: "none", kernelOnly: RING_MEMORY },
  BPF_MAP_TYPE_CGRP_STORAGE: { attr: STORAGE, keys: "fd of a cgroup", values: "bytes", keyFd: "cgroup" },
  BPF_MAP_TYPE_ARENA: {
    attr: { max_entries: 4, map_flags: BPF_F.BPF_F_MMAPABLE },
    keys: "none",
    values: "none",
    kernelOnly: RING_MEMORY,
  },
};
