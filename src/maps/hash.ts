import { CALLBACKS, HASH_FACTS, LOCKS } from "./map_facts.ts";
import { plainHash } from "./plain_hash.ts";

/** BPF_MAP_TYPE_HASH. Source: kernel/bpf/hashtab.c. */
export const hash = plainHash({ ...HASH_FACTS, offload: true, special: [...LOCKS, ...CALLBACKS] });
