/** BPF_MAP_TYPE_CPUMAP: queues by CPU. Source: kernel/bpf/cpumap.c. */

import { BPF_ATTACH_TYPE, BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { CPUMAP_ENTRIES_MAX, CPUMAP_QUEUE_MAX } from "../abi/limits.ts";
import { checkArray } from "./array_create.ts";
import { checkUpdateFlags, checkValueSize } from "./common.ts";
import { checkIndex, indexOf } from "./index_keys.ts";
import type { MapType } from "./map.ts";
import { PLAIN_FACTS, SECOND_PROGRAM } from "./map_facts.ts";
import { refuse } from "./refusal.ts";
import { fill, TARGET_SLOTS } from "./target_slots.ts";
import { programIn } from "./xdp_programs.ts";

export const cpumap: MapType = {
  ...TARGET_SLOTS,
  facts: { ...PLAIN_FACTS, value: SECOND_PROGRAM },
  allocCheck: () => null,

  alloc(attr) {
    const refusal = checkArray(attr, BPF_F.BPF_F_NUMA_NODE, "a cpumap's") ?? checkValueSize(attr, 4, 8);
    if (refusal !== null || attr.maxEntries <= CPUMAP_ENTRIES_MAX) return refusal;
    return refuse("E2BIG", `max_entries is ${attr.maxEntries}: more than ${CPUMAP_ENTRIES_MAX}, the kernel's NR_CPUS`);
  },

  update(store, key, value, flags) {
    const cpu = indexOf(key);
    const refusal = checkUpdateFlags(flags) ?? checkIndex(store.map, cpu, "E2BIG");
    if (refusal !== null) return refusal;
    if (flags === BPF_ELEM.BPF_NOEXIST) return refuse("EEXIST", "BPF_NOEXIST, but every index exists from the start");
    const queueSize = value.readUInt32LE(0);
    if (queueSize > CPUMAP_QUEUE_MAX)
      return refuse("EOVERFLOW", `qsize is ${queueSize}: more than ${CPUMAP_QUEUE_MAX}`);
    if (cpu >= store.host.possibleCpus)
      return refuse("ENODEV", `CPU ${cpu} is not among the ${store.host.possibleCpus} possible CPUs`);
    if (queueSize === 0) return fill(store, key, 0, 0);
    const program = programIn(store, value, BPF_ATTACH_TYPE.BPF_XDP_CPUMAP);
    return typeof program === "number" ? fill(store, key, queueSize, program) : refuse("ENOMEM", program.detail);
  },
};
