/**
 * BPF_MAP_TYPE_PERF_EVENT_ARRAY: descriptors of perf events. Source: perf_event_fd_array_*, kernel/bpf/arraymap.c. A
 * slot's cell also has, after the event's id, the open file of the map (u32) through which the slot was filled: when
 * that file is closed, the slot is emptied.
 */

import { BPF_F } from "../abi/bpf.ts";
import { ARRAY_FLAGS } from "./array_create.ts";
import { noBtf, u32Buffer } from "./common.ts";
import { objectAt } from "./fd_object.ts";
import { checkHolderArray, holderArray } from "./holder_array.ts";
import { filled } from "./index_keys.ts";
import type { MapType } from "./map.ts";
import { NOT_SHOWN, PLAIN_FACTS } from "./map_facts.ts";
import { refused } from "./refusal.ts";

export const perfEventArray: MapType = {
  ...holderArray({
    resolve(store, fd) {
      const found = objectAt(store, fd, "perf_event", "EBADF");
      return "id" in found ? u32Buffer(found.id, store.file) : found;
    },
    hold: ({ world }, id) => world.holdObject(id),
    release: ({ world }, id) => world.releaseObject(id),
  }),
  facts: { ...PLAIN_FACTS, value: NOT_SHOWN },
  checkBtf: noBtf,
  allocCheck: (attr) => checkHolderArray(attr, ARRAY_FLAGS | BPF_F.BPF_F_PRESERVE_ELEMS, "a perf event array's"),
  alloc: () => null,
  allocatedBytes: (attr) => attr.maxEntries * 8,
  lookup: refused("ENOTSUPP", "perf events cannot be looked up"),

  release(store, file) {
    if ((store.map.mapFlags & BPF_F.BPF_F_PRESERVE_ELEMS) !== 0) return;
    for (const [index, bytes] of [...filled(store)])
      if (bytes.readUInt32LE(4) === file) perfEventArray.remove(store, u32Buffer(index));
  },
};
