/** Facts of <linux/bpf.h> as of Linux 6.18: numbers and names, no behaviour. */

/** enum bpf_cmd. The kernel answers 38 and above with EINVAL. */
export const BPF_CMD = {
  BPF_MAP_CREATE: 0,
  BPF_MAP_LOOKUP_ELEM: 1,
  BPF_MAP_UPDATE_ELEM: 2,
  BPF_MAP_DELETE_ELEM: 3,
  BPF_MAP_GET_NEXT_KEY: 4,
  BPF_PROG_LOAD: 5,
  BPF_OBJ_PIN: 6,
  BPF_OBJ_GET: 7,
  BPF_PROG_ATTACH: 8,
  BPF_PROG_DETACH: 9,
  BPF_PROG_TEST_RUN: 10,
  BPF_PROG_GET_NEXT_ID: 11,
  BPF_MAP_GET_NEXT_ID: 12,
  BPF_PROG_GET_FD_BY_ID: 13,
  BPF_MAP_GET_FD_BY_ID: 14,
  BPF_OBJ_GET_INFO_BY_FD: 15,
  BPF_PROG_QUERY: 16,
  BPF_RAW_TRACEPOINT_OPEN: 17,
  BPF_BTF_LOAD: 18,
  BPF_BTF_GET_FD_BY_ID: 19,
  BPF_TASK_FD_QUERY: 20,
  BPF_MAP_LOOKUP_AND_DELETE_ELEM: 21,
  BPF_MAP_FREEZE: 22,
  BPF_BTF_GET_NEXT_ID: 23,
  BPF_MAP_LOOKUP_BATCH: 24,
  BPF_MAP_LOOKUP_AND_DELETE_BATCH: 25,
  BPF_MAP_UPDATE_BATCH: 26,
  BPF_MAP_DELETE_BATCH: 27,
  BPF_LINK_CREATE: 28,
  BPF_LINK_UPDATE: 29,
  BPF_LINK_GET_FD_BY_ID: 30,
  BPF_LINK_GET_NEXT_ID: 31,
  BPF_ENABLE_STATS: 32,
  BPF_ITER_CREATE: 33,
  BPF_LINK_DETACH: 34,
  BPF_PROG_BIND_MAP: 35,
  BPF_TOKEN_CREATE: 36,
  BPF_PROG_STREAM_READ_BY_FD: 37,
} as const;

/** Commands on programs, links and tokens: mapledger has none of them. All other commands are about maps, or their BTF. */
type OtherCmdName =
  | "BPF_PROG_LOAD"
  | "BPF_PROG_ATTACH"
  | "BPF_PROG_DETACH"
  | "BPF_PROG_TEST_RUN"
  | "BPF_PROG_GET_NEXT_ID"
  | "BPF_PROG_GET_FD_BY_ID"
  | "BPF_PROG_QUERY"
  | "BPF_RAW_TRACEPOINT_OPEN"
  | "BPF_TASK_FD_QUERY"
  | "BPF_LINK_CREATE"
  | "BPF_LINK_UPDATE"
  | "BPF_LINK_GET_FD_BY_ID"
  | "BPF_LINK_GET_NEXT_ID"
  | "BPF_ENABLE_STATS"
  | "BPF_ITER_CREATE"
  | "BPF_LINK_DETACH"
  | "BPF_PROG_BIND_MAP"
  | "BPF_TOKEN_CREATE"
  | "BPF_PROG_STREAM_READ_BY_FD";

export type MapCmdName = Exclude<keyof typeof BPF_CMD, OtherCmdName>;

/**
 * The commands that `native/bpf.ts` repeats if they fail with EAGAIN, because the same call can then succeed:
 *
 *   BPF_MAP_UPDATE_ELEM, on a local storage (bpf_local_storage_update): the kernel is freeing another map, and has just
 *                        deleted the last element of the same owner. The next call makes a new storage for the owner
 *   BPF_PROG_LOAD        a signal is pending during verification (do_check). It is handled before the next call
 *
 * Batches fail with EAGAIN, too, but are not repeated: their attr says how far they got, so the same call would begin
 * at another place.
 */
export const AGAIN_CMDS: ReadonlySet<number> = new Set([BPF_CMD.BPF_MAP_UPDATE_ELEM, BPF_CMD.BPF_PROG_LOAD]);

/** enum bpf_map_type. */
export const BPF_MAP_TYPE = {
  BPF_MAP_TYPE_UNSPEC: 0,
  BPF_MAP_TYPE_HASH: 1,
  BPF_MAP_TYPE_ARRAY: 2,
  BPF_MAP_TYPE_PROG_ARRAY: 3,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: 4,
  BPF_MAP_TYPE_PERCPU_HASH: 5,
  BPF_MAP_TYPE_PERCPU_ARRAY: 6,
  BPF_MAP_TYPE_STACK_TRACE: 7,
  BPF_MAP_TYPE_CGROUP_ARRAY: 8,
  BPF_MAP_TYPE_LRU_HASH: 9,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: 10,
  BPF_MAP_TYPE_LPM_TRIE: 11,
  BPF_MAP_TYPE_ARRAY_OF_MAPS: 12,
  BPF_MAP_TYPE_HASH_OF_MAPS: 13,
  BPF_MAP_TYPE_DEVMAP: 14,
  BPF_MAP_TYPE_SOCKMAP: 15,
  BPF_MAP_TYPE_CPUMAP: 16,
  BPF_MAP_TYPE_XSKMAP: 17,
  BPF_MAP_TYPE_SOCKHASH: 18,
  BPF_MAP_TYPE_CGROUP_STORAGE: 19,
  BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: 20,
  BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE: 21,
  BPF_MAP_TYPE_QUEUE: 22,
  BPF_MAP_TYPE_STACK: 23,
  BPF_MAP_TYPE_SK_STORAGE: 24,
  BPF_MAP_TYPE_DEVMAP_HASH: 25,
  BPF_MAP_TYPE_STRUCT_OPS: 26,
  BPF_MAP_TYPE_RINGBUF: 27,
  BPF_MAP_TYPE_INODE_STORAGE: 28,
  BPF_MAP_TYPE_TASK_STORAGE: 29,
  BPF_MAP_TYPE_BLOOM_FILTER: 30,
  BPF_MAP_TYPE_USER_RINGBUF: 31,
  BPF_MAP_TYPE_CGRP_STORAGE: 32,
  BPF_MAP_TYPE_ARENA: 33,
} as const;

export type MapTypeName = keyof typeof BPF_MAP_TYPE;

const MAP_TYPE_NAMES = new Map<number, MapTypeName>(
  Object.entries(BPF_MAP_TYPE).map(([name, number]) => [number, name as MapTypeName]),
);

/** The name of a map type; undefined if enum bpf_map_type has no such number. */
export function mapTypeName(number: number): MapTypeName | undefined {
  return MAP_TYPE_NAMES.get(number);
}

/** enum bpf_prog_type. */
export const BPF_PROG_TYPE = {
  BPF_PROG_TYPE_UNSPEC: 0,
  BPF_PROG_TYPE_SOCKET_FILTER: 1,
  BPF_PROG_TYPE_KPROBE: 2,
  BPF_PROG_TYPE_SCHED_CLS: 3,
  BPF_PROG_TYPE_SCHED_ACT: 4,
  BPF_PROG_TYPE_TRACEPOINT: 5,
  BPF_PROG_TYPE_XDP: 6,
  BPF_PROG_TYPE_PERF_EVENT: 7,
  BPF_PROG_TYPE_CGROUP_SKB: 8,
  BPF_PROG_TYPE_CGROUP_SOCK: 9,
  BPF_PROG_TYPE_LWT_IN: 10,
  BPF_PROG_TYPE_LWT_OUT: 11,
  BPF_PROG_TYPE_LWT_XMIT: 12,
  BPF_PROG_TYPE_SOCK_OPS: 13,
  BPF_PROG_TYPE_SK_SKB: 14,
  BPF_PROG_TYPE_CGROUP_DEVICE: 15,
  BPF_PROG_TYPE_SK_MSG: 16,
  BPF_PROG_TYPE_RAW_TRACEPOINT: 17,
  BPF_PROG_TYPE_CGROUP_SOCK_ADDR: 18,
  BPF_PROG_TYPE_LWT_SEG6LOCAL: 19,
  BPF_PROG_TYPE_LIRC_MODE2: 20,
  BPF_PROG_TYPE_SK_REUSEPORT: 21,
  BPF_PROG_TYPE_FLOW_DISSECTOR: 22,
  BPF_PROG_TYPE_CGROUP_SYSCTL: 23,
  BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE: 24,
  BPF_PROG_TYPE_CGROUP_SOCKOPT: 25,
  BPF_PROG_TYPE_TRACING: 26,
  BPF_PROG_TYPE_STRUCT_OPS: 27,
  BPF_PROG_TYPE_EXT: 28,
  BPF_PROG_TYPE_LSM: 29,
  BPF_PROG_TYPE_SK_LOOKUP: 30,
  BPF_PROG_TYPE_SYSCALL: 31,
  BPF_PROG_TYPE_NETFILTER: 32,
} as const;

/** The values of enum bpf_attach_type that decide which maps a program may be in. */
export const BPF_ATTACH_TYPE = { BPF_XDP_DEVMAP: 33, BPF_XDP_CPUMAP: 35, BPF_XDP: 37 } as const;

/** Flags of BPF_MAP_CREATE, BPF_OBJ_PIN/GET (`file_flags`) and BPF_MAP_GET_FD_BY_ID (`open_flags`). */
export const BPF_F = {
  BPF_F_NO_PREALLOC: 1 << 0,
  BPF_F_NO_COMMON_LRU: 1 << 1,
  BPF_F_NUMA_NODE: 1 << 2,
  BPF_F_RDONLY: 1 << 3,
  BPF_F_WRONLY: 1 << 4,
  BPF_F_STACK_BUILD_ID: 1 << 5,
  BPF_F_ZERO_SEED: 1 << 6,
  BPF_F_RDONLY_PROG: 1 << 7,
  BPF_F_WRONLY_PROG: 1 << 8,
  BPF_F_CLONE: 1 << 9,
  BPF_F_MMAPABLE: 1 << 10,
  BPF_F_PRESERVE_ELEMS: 1 << 11,
  BPF_F_INNER_MAP: 1 << 12,
  BPF_F_LINK: 1 << 13,
  BPF_F_PATH_FD: 1 << 14,
  BPF_F_VTYPE_BTF_OBJ_FD: 1 << 15,
  BPF_F_TOKEN_FD: 1 << 16,
  BPF_F_SEGV_ON_FAULT: 1 << 17,
  BPF_F_NO_USER_CONV: 1 << 18,
} as const;

/** Flags of an element's update, u64. BPF_F_LOCK is a flag of lookups and of batches (`elem_flags`), too. */
export const BPF_ELEM = { BPF_ANY: 0n, BPF_NOEXIST: 1n, BPF_EXIST: 2n, BPF_F_LOCK: 4n } as const;

/** BPF_OBJ_NAME_LEN: the bytes of a map's name, with its NUL. */
export const OBJ_NAME_LEN = 16;

/** sizeof(struct bpf_map_info), with padding. */
export const MAP_INFO_BYTES = 104;
/** The end of `hash_size`: the kernel requires zeros in an info buffer from here on. */
export const MAP_INFO_TAIL_BYTES = 100;

/** Byte offsets of the fields in struct bpf_map_info. Fields are u32, if nothing else is noted. */
export const MAP_INFO = {
  type: 0,
  id: 4,
  key_size: 8,
  value_size: 12,
  max_entries: 16,
  map_flags: 20,
  /** char[16] */
  name: 24,
  ifindex: 40,
  btf_vmlinux_value_type_id: 44,
  /** u64 */
  netns_dev: 48,
  /** u64 */
  netns_ino: 56,
  btf_id: 64,
  btf_key_type_id: 68,
  btf_value_type_id: 72,
  btf_vmlinux_id: 76,
  /** u64 */
  map_extra: 80,
  /** u64, a pointer: input */
  hash: 88,
  /** input */
  hash_size: 96,
} as const;

/** sizeof(struct bpf_btf_info). The kernel requires zeros in an info buffer from here on. */
export const BTF_INFO_BYTES = 32;

/** Byte offsets of the fields in struct bpf_btf_info. Fields are u32, if nothing else is noted. */
export const BTF_INFO = {
  /** u64, a pointer: input */
  btf: 0,
  /** input and output */
  btf_size: 8,
  id: 12,
  /** u64, a pointer: input */
  name: 16,
  /** input and output */
  name_len: 24,
  kernel_btf: 28,
} as const;
