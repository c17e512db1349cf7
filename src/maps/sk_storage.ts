import { localStorage } from "./local_storage.ts";
import { socketAt } from "./sockets.ts";

/** BPF_MAP_TYPE_SK_STORAGE: keys are descriptors of sockets of any kind. Source: net/core/bpf_sk_storage.c. */
export const skStorage = localStorage("socket", (store, fd) => {
  const socket = socketAt(store, fd);
  return "id" in socket ? socket.id : socket;
});
