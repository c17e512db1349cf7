import { ARRAY_FLAGS } from "./array_create.ts";
import { noBtf, u32Buffer } from "./common.ts";
import { cgroupAt } from "./fd_object.ts";
import { checkHolderArray, holderArray } from "./holder_array.ts";
import type { MapType } from "./map.ts";
import { NOT_SHOWN, PLAIN_FACTS } from "./map_facts.ts";
import { refused } from "./refusal.ts";

/** BPF_MAP_TYPE_CGROUP_ARRAY: descriptors of cgroup directories. Source: cgroup_fd_array_*, kernel/bpf/arraymap.c. */
export const cgroupArray: MapType = {
  ...holderArray({
    resolve(store, fd) {
      const found = cgroupAt(store, fd);
      return "id" in found ? u32Buffer(found.id) : found;
    },
    hold: ({ world }, id) => world.holdObject(id),
    release: ({ world }, id) => world.releaseObject(id),
  }),
  facts: { ...PLAIN_FACTS, value: NOT_SHOWN },
  checkBtf: noBtf,
  allocCheck: (attr) => checkHolderArray(attr, ARRAY_FLAGS, "a cgroup array's"),
  alloc: () => null,
  allocatedBytes: (attr) => attr.maxEntries * 8,
  lookup: refused("ENOTSUPP", "cgroups cannot be looked up"),
};
