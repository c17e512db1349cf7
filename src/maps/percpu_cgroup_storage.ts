import { programStorage } from "./program_storage.ts";

/** BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE. Source: kernel/bpf/local_storage.c. */
export const percpuCgroupStorage = programStorage({ perCpu: true });
