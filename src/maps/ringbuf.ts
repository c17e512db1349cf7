/** BPF_MAP_TYPE_RINGBUF: it has no elements, only memory that programs write to. Source: kernel/bpf/ringbuf.c. */

import { BPF_F } from "../abi/bpf.ts";
import { checkFlags, checkKeySize, checkValueSize } from "./common.ts";
import type { CreateAttr, Host, MapType } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { RING_ONLY, withoutElements } from "./without_elements.ts";

/** ringbuf_map_alloc() */
export function checkRing(attr: CreateAttr, host: Host): Refusal | null {
  const refusal =
    checkFlags(attr, BPF_F.BPF_F_NUMA_NODE, "a ring buffer's") ?? checkKeySize(attr, 0) ?? checkValueSize(attr, 0);
  if (refusal !== null) return refusal;
  const bytes = attr.maxEntries;
  if (bytes !== 0 && Number.isInteger(Math.log2(bytes)) && bytes % host.pageBytes === 0) return null;
  return refuse("EINVAL", `max_entries is ${bytes}: a power of two, and a multiple of ${host.pageBytes}, required`);
}

export const ringbuf: MapType = {
  ...withoutElements(RING_ONLY, RING_ONLY),
  facts: { ...PLAIN_FACTS, memory: "kernel only" },
  allocCheck: () => null,
  alloc: checkRing,
  allocatedBytes: (attr) => attr.maxEntries,
};
