import { CALLBACKS, HASH_FACTS } from "./map_facts.ts";
import { recentHash } from "./recent_hash.ts";

/** BPF_MAP_TYPE_LRU_HASH. Source: kernel/bpf/hashtab.c, kernel/bpf/bpf_lru_list.c. */
export const lruHash = recentHash({ ...HASH_FACTS, evicts: true, special: CALLBACKS });
