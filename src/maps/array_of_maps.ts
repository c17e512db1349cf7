/**
 * BPF_MAP_TYPE_ARRAY_OF_MAPS: updates take descriptors of maps, lookups answer ids. Source: kernel/bpf/arraymap.c,
 * map_in_map.c.
 */

import { ARRAY_FLAGS } from "./array_create.ts";
import { byKeys, noBtf, u32Buffer } from "./common.ts";
import { checkHolderArray, heldAt, holderArray } from "./holder_array.ts";
import { nextIndex } from "./index_keys.ts";
import { checkTemplate, innerMap, templateOf } from "./inner_maps.ts";
import type { MapType } from "./map.ts";
import { MAPS, PLAIN_FACTS } from "./map_facts.ts";
import { refuse } from "./refusal.ts";

const NO_TAKE = refuse("ENOTSUPP", "batches that delete are not allowed for an array of maps");

export const arrayOfMaps: MapType = {
  ...holderArray({
    resolve(store, fd) {
      const inner = innerMap(store, u32Buffer(fd));
      return typeof inner === "number" ? u32Buffer(inner) : inner;
    },
    hold: ({ world }, id) => world.hold(id),
    release: ({ world }, id) => world.release(id),
  }),
  facts: { ...PLAIN_FACTS, value: MAPS },
  checkBtf: noBtf,
  allocCheck: (attr) => checkHolderArray(attr, ARRAY_FLAGS, "an array of maps'"),
  alloc: (attr, _host, creator) => checkTemplate(attr, creator),
  recorded: (attr, _host, creator) => templateOf(attr, creator),
  allocatedBytes: (attr) => attr.maxEntries * 8,
  lookup: heldAt,
  batch: {
    lookup: byKeys({ nextKey: nextIndex, lookup: heldAt }),
    lookupAndDelete: NO_TAKE,
    update: null,
    delete: NO_TAKE,
  },
};
