import { line } from "./line.ts";

/** BPF_MAP_TYPE_QUEUE: first in, first out. Source: kernel/bpf/queue_stack_maps.c. */
export const queue = line({ newest: false });
