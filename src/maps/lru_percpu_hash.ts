import { HASH_FACTS } from "./map_facts.ts";
import { recentHash } from "./recent_hash.ts";

/** BPF_MAP_TYPE_LRU_PERCPU_HASH. Source: kernel/bpf/hashtab.c, kernel/bpf/bpf_lru_list.c. */
export const lruPercpuHash = recentHash({ ...HASH_FACTS, evicts: true, perCpu: true });
