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
