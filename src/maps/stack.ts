import { line } from "./line.ts";

/** BPF_MAP_TYPE_STACK: last in, first out. Source: kernel/bpf/queue_stack_maps.c. */
export const stack = line({ newest: true });
