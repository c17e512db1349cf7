import { plainHash } from "./plain_hash.ts";

/** BPF_MAP_TYPE_HASH. Source: kernel/bpf/hashtab.c. */
export const hash = plainHash({ perCpu: false });
