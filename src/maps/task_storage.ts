import { objectAt } from "./fd_object.ts";
import { localStorage } from "./local_storage.ts";
import { refuse } from "./refusal.ts";

/** BPF_MAP_TYPE_TASK_STORAGE: keys are pidfds. Source: kernel/bpf/bpf_task_storage.c. */
export const taskStorage = localStorage("process", (store, fd) => {
  const process = objectAt(store, fd, "process", "EBADF");
  if (!("id" in process)) return process;
  return process.exited ? refuse("ENOENT", `process ${process.pid} has exited`) : process.id;
});
