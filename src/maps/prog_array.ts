/**
 * BPF_MAP_TYPE_PROG_ARRAY: updates take descriptors of programs, lookups answer ids. Source: prog_fd_array_get_ptr(),
 * kernel/bpf/arraymap.c; __bpf_prog_map_compatible(), kernel/bpf/core.c: all programs must have the type of the first
 * one, for as long as the map exists.
 */

import { ARRAY_FLAGS } from "./array_create.ts";
import { u32Buffer } from "./common.ts";
import { objectAt } from "./fd_object.ts";
import { checkHolderArray, heldAt, holderArray } from "./holder_array.ts";
import { byIndex } from "./index_keys.ts";
import type { MapStore, MapType } from "./map.ts";
import { PLAIN_FACTS, PROGRAMS } from "./map_facts.ts";
import type { ProgFacts } from "./object.ts";
import { type Refusal, refuse } from "./refusal.ts";

function program(store: MapStore, fd: number): Buffer | Refusal {
  const found = objectAt(store, fd, "prog", "EINVAL");
  if (!("id" in found)) return found;
  const { progType, expectedAttachType } = found;
  const { owner } = store.map;
  if (owner !== null && (owner.progType !== progType || owner.expectedAttachType !== expectedAttachType))
    return refuse("EINVAL", `the program has type ${progType}: the map's first program had type ${owner.progType}`);
  return u32Buffer(found.id);
}

function hold({ map, world }: MapStore, id: number): void {
  world.holdObject(id);
  const { progType, expectedAttachType } = world.object(id) as ProgFacts;
  if (map.owner === null) world.own(map.id, { progType, expectedAttachType });
}

/** The value that a lookup answers for a filled slot. */
function idOf({ world }: MapStore, held: Buffer): Buffer {
  return u32Buffer((world.object(held.readUInt32LE(0)) as ProgFacts).progId);
}

export const progArray: MapType = {
  ...holderArray({
    resolve: program,
    hold,
    release: ({ world }, id) => world.releaseObject(id),
  }),
  facts: { ...PLAIN_FACTS, value: PROGRAMS, inner: "never" },
  allocCheck: (attr) => checkHolderArray(attr, ARRAY_FLAGS, "a program array's"),
  alloc: () => null,
  allocatedBytes: (attr) => attr.maxEntries * 8,

  lookup(store, key) {
    const held = heldAt(store, key);
    return Buffer.isBuffer(held) ? idOf(store, held) : held;
  },

  ...byIndex(idOf),
};
