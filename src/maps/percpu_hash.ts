import { HASH_FACTS } from "./map_facts.ts";
import { plainHash } from "./plain_hash.ts";

/** BPF_MAP_TYPE_PERCPU_HASH. Source: kernel/bpf/hashtab.c. Each CPU's slot is stored with its padding. */
export const percpuHash = plainHash({ ...HASH_FACTS, perCpu: true });
