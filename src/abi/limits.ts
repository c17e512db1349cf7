/** Limits that bpf(2) has, each with its source. The service's own limits are settings: config.ts. */

/** KMALLOC_MAX_SIZE: 4 MiB on x86-64. */
const KMALLOC_MAX_BYTES = 4 * 1024 * 1024;

/** key_size + value_size of a hash: KMALLOC_MAX_SIZE - sizeof(struct htab_elem) - 1, kernel/bpf/hashtab.c; 4194255 on 6.18. */
export const HASH_ELEMENT_BYTES_MAX = KMALLOC_MAX_BYTES - 49;
/** max_entries of a hash: more buckets than 2^27 of 16 bytes are E2BIG, kernel/bpf/hashtab.c. */
export const HASH_ENTRIES_MAX = 2 ** 27;
/** value_size of an array: INT_MAX, kernel/bpf/arraymap.c. */
export const ARRAY_VALUE_BYTES_MAX = 2 ** 31 - 1;
/** key_size of a trie: a u32 and 1 to 256 bytes of data, kernel/bpf/lpm_trie.c. */
export const LPM_KEY_BYTES_MIN = 5;
export const LPM_KEY_BYTES_MAX = 260;
/** value_size of a trie: KMALLOC_MAX_SIZE - 256 - sizeof(struct lpm_trie_node), kernel/bpf/lpm_trie.c; 4194024 on 6.18. */
export const LPM_VALUE_BYTES_MAX = KMALLOC_MAX_BYTES - 280;

/** Ids come from an idr over 1 to INT_MAX - 1, kernel/bpf/syscall.c. */
export const ID_MAX = 2 ** 31 - 2;
/** The largest info_len that BPF_OBJ_GET_INFO_BY_FD takes: PAGE_SIZE. */
export const INFO_BYTES_MAX = 4096;
/** NAME_MAX and PATH_MAX, include/uapi/linux/limits.h; PATH_MAX counts the NUL. */
export const NAME_BYTES_MAX = 255;
export const PATH_BYTES_MAX = 4096;
/** RLIMIT_NOFILE as Linux starts a process: the number of descriptors in a table, 0 to 2 among them. */
export const SESSION_FDS_MAX = 1024;
/** The first descriptor behind those. */
export const FIRST_FD = 3;

/** PCPU_MIN_UNIT_SIZE, include/linux/percpu.h: what a CPU's value may take, rounded up to 8 bytes. */
export const PERCPU_VALUE_BYTES_MAX = 32 * 1024;
/** value_size of a queue, a stack or a bloom filter: KMALLOC_MAX_SIZE, kernel/bpf/queue_stack_maps.c, bloom_filter.c. */
export const QUEUE_VALUE_BYTES_MAX = KMALLOC_MAX_BYTES;
/** value_size of local storage: what fits one of its elements, kernel/bpf/bpf_local_storage.c; 65407 on 6.18. */
export const STORAGE_VALUE_BYTES_MAX = 65_407;
/** value_size of cgroup storage, kernel/bpf/local_storage.c: as above. */
export const CGROUP_STORAGE_VALUE_BYTES_MAX = 65_407;
/** NR_CPUS of the kernels that Debian and others ship lies at or above it: the kernel judged here was built with 256. */
export const CPUMAP_ENTRIES_MAX = 256;
/** Queue size of a CPUMAP entry, kernel/bpf/cpumap.c. */
export const CPUMAP_QUEUE_MAX = 16_384;
/** max_entries of a DEVMAP_HASH: as many buckets, rounded up, fit 32 bits, kernel/bpf/devmap.c. */
export const DEVMAP_HASH_ENTRIES_MAX = 2 ** 31;
/** key_size of a SOCKHASH: MAX_BPF_STACK, net/core/sock_map.c. */
export const SOCKHASH_KEY_BYTES_MAX = 512;
/** max_entries of a SOCKHASH, net/core/sock_map.c. */
export const SOCKHASH_ENTRIES_MAX = 2 ** 27;
/** Frames of a stack trace: sysctl kernel.perf_event_max_stack as it is unless somebody sets it. */
export const STACK_FRAMES_MAX = 127;
/** max_entries of a STACK_TRACE: as many buckets, rounded up, fit 32 bits, kernel/bpf/stackmap.c. */
export const STACK_TRACE_ENTRIES_MAX = 2 ** 31;
/** Pages of an arena: 4 GiB, kernel/bpf/arena.c. */
export const ARENA_PAGES_MAX = 2 ** 20;
/** BTF_MAX_SIZE, include/linux/btf.h. */
export const BTF_BYTES_MAX = 16 * 1024 * 1024;
