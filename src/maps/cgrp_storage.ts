import { cgroupAt } from "./fd_object.ts";
import { localStorage } from "./local_storage.ts";

/** BPF_MAP_TYPE_CGRP_STORAGE: keys are descriptors of cgroup directories. Source: kernel/bpf/bpf_cgrp_storage.c. */
export const cgrpStorage = localStorage("cgroup", (store, fd) => {
  const cgroup = cgroupAt(store, fd);
  return "id" in cgroup ? cgroup.id : cgroup;
});
