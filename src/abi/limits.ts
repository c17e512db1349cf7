/** bpf(2)'s limits, each with its source. The service's own limits are settings: config.ts. */

/** KMALLOC_MAX_SIZE: 4 MiB on x86-64. */
const KMALLOC_MAX_BYTES = 4 * 1024 * 1024;

/**
 * key_size + value_size of a hash: KMALLOC_MAX_SIZE - sizeof(struct htab_elem) - 1, kernel/bpf/hashtab.c; 4194255 on
 * 6.18.
 */
export const HASH_ELEMENT_BYTES_MAX = KMALLOC_MAX_BYTES - 49;
/**
 * max_entries of a hash, kernel/bpf/hashtab.c: the bucket table would be too large (E2BIG) with more than 2^27 buckets
 * of 16 bytes.
 */
export const HASH_ENTRIES_MAX = 2 ** 27;
/** value_size of an array: INT_MAX, kernel/bpf/arraymap.c. */
export const ARRAY_VALUE_BYTES_MAX = 2 ** 31 - 1;
/** key_size of a trie: a u32 and 1 to 256 bytes of data, kernel/bpf/lpm_trie.c. */
export const LPM_KEY_BYTES_MIN = 5;
export const LPM_KEY_BYTES_MAX = 260;
/** value_size of a trie: KMALLOC_MAX_SIZE - 256 - sizeof(struct lpm_trie_node), kernel/bpf/lpm_trie.c; 4194024 on 6.18. */
export const LPM_VALUE_BYTES_MAX = KMALLOC_MAX_BYTES - 280;

/** Ids of maps, programs and BTF are 1 to INT_MAX - 1 (from an idr), kernel/bpf/syscall.c. */
export const ID_MAX = 2 ** 31 - 2;
/** The largest info_len of BPF_OBJ_GET_INFO_BY_FD: PAGE_SIZE. */
export const INFO_BYTES_MAX = 4096;
/** NAME_MAX and PATH_MAX, include/uapi/linux/limits.h; PATH_MAX includes the NUL. */
export const NAME_BYTES_MAX = 255;
export const PATH_BYTES_MAX = 4096;
/** The soft limit RLIMIT_NOFILE of a new process: 1024 descriptors, of which 0, 1 and 2 are taken. */
export const SESSION_FDS_MAX = 1024;
/** The first descriptor after stdin, stdout and stderr. */
export const FIRST_FD = 3;

/** PCPU_MIN_UNIT_SIZE, include/linux/percpu.h: the most bytes of a CPU's value, rounded up to 8. */
export const PERCPU_VALUE_BYTES_MAX = 32 * 1024;
/** value_size of a queue, a stack or a bloom filter: KMALLOC_MAX_SIZE, kernel/bpf/queue_stack_maps.c, bloom_filter.c. */
export const QUEUE_VALUE_BYTES_MAX = KMALLOC_MAX_BYTES;
/**
 * value_size of local storage: the largest value of which an element can be allocated, kernel/bpf/bpf_local_storage.c;
 * 65407 on 6.18.
 */
export const STORAGE_VALUE_BYTES_MAX = 65_407;
/** value_size of cgroup storage, kernel/bpf/local_storage.c: the largest value of which an element can be allocated. */
export const CGROUP_STORAGE_VALUE_BYTES_MAX = 65_407;
/**
 * max_entries of a cpumap: NR_CPUS, a build option of the kernel. Distributions' kernels have 256 or more; the kernel
 * that mapledger is compared with has 256.
 */
export const CPUMAP_ENTRIES_MAX = 256;
/** Queue size of a CPUMAP entry, kernel/bpf/cpumap.c. */
export const CPUMAP_QUEUE_MAX = 16_384;
/**
 * max_entries of a DEVMAP_HASH, kernel/bpf/devmap.c: rounded up to a power of two, the number of buckets must fit in 32
 * bits.
 */
export const DEVMAP_HASH_ENTRIES_MAX = 2 ** 31;
/** key_size of a SOCKHASH: MAX_BPF_STACK, net/core/sock_map.c. */
export const SOCKHASH_KEY_BYTES_MAX = 512;
/** max_entries of a SOCKHASH, net/core/sock_map.c. */
export const SOCKHASH_ENTRIES_MAX = 2 ** 27;
/** Frames of a stack trace: the default of sysctl kernel.perf_event_max_stack. */
export const STACK_FRAMES_MAX = 127;
/**
 * max_entries of a STACK_TRACE, kernel/bpf/stackmap.c: rounded up to a power of two, the number of buckets must fit in
 * 32 bits.
 */
export const STACK_TRACE_ENTRIES_MAX = 2 ** 31;
/** Pages of an arena: 4 GiB, kernel/bpf/arena.c. */
export const ARENA_PAGES_MAX = 2 ** 20;
/** BTF_MAX_SIZE, include/linux/btf.h. */
export const BTF_BYTES_MAX = 16 * 1024 * 1024;
