import { localStorage } from "./local_storage.ts";
import { ANON_INODE } from "./object.ts";
import { refuse } from "./refusal.ts";

/**
 * BPF_MAP_TYPE_INODE_STORAGE: keys are descriptors of any kind, and name the inode. Source:
 * kernel/bpf/bpf_inode_storage.c. Descriptors of maps, programs, BTF and perf events are anonymous files, which share
 * one inode.
 */
export const inodeStorage = localStorage("inode", ({ world, session }, fd) => {
  const file = world.fd(session, fd);
  if (file === undefined) return refuse("EBADF", `fd ${fd} is not open`);
  const object = world.object(file.object);
  if (object === undefined) return ANON_INODE;
  switch (object.kind) {
    case "prog":
    case "btf":
    case "perf_event":
      return ANON_INODE;
    case "pipe":
    case "file":
    case "dir":
    case "socket":
    case "process":
    case "cgroup":
      return object.id;
  }
});
