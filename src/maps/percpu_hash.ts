import { HASH_FACTS } from "./map_facts.ts";
import { plainHash } from "./plain_hash.ts";

/** BPF_MAP_TYPE_PERCPU_HASH. Source: kernel/bpf/hashtab.c. All of a CPU's slot is kept, its padding, too. */
export const percpuHash = plainHash({ ...HASH_FACTS, perCpu: true });
