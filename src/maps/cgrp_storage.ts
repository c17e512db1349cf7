import { localStorage } from "./local_storage.ts";
import { objectAt } from "./object.ts";
import { refuse } from "./refusal.ts";

/** BPF_MAP_TYPE_CGRP_STORAGE: by cgroup directory. Source: kernel/bpf/bpf_cgrp_storage.c. */
export const cgrpStorage = localStorage((store, fd) => {
  const cgroup = objectAt(store, fd, "cgroup", "EBADF");
  if (!("id" in cgroup)) return cgroup;
  return cgroup.removed ? refuse("ENOENT", `cgroup ${cgroup.cgroupId} was removed`) : cgroup.id;
});
