import type { MapType } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { checkRing } from "./ringbuf.ts";
import { RING_ONLY, withoutElements } from "./without_elements.ts";

/** BPF_MAP_TYPE_USER_RINGBUF: memory that user space writes and programs read. Source: kernel/bpf/ringbuf.c. */
export const userRingbuf: MapType = {
  ...withoutElements(RING_ONLY, RING_ONLY),
  facts: { ...PLAIN_FACTS, memory: "kernel only" },
  allocCheck: () => null,
  alloc: checkRing,
  allocatedBytes: (attr) => attr.maxEntries,
};
