/** BPF_MAP_TYPE_DEVMAP: interfaces by index. Source: kernel/bpf/devmap.c. */

import { BPF_ATTACH_TYPE, BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { ARRAY_FLAGS, checkArray } from "./array_create.ts";
import { checkUpdateFlags, checkValueSize } from "./common.ts";
import { checkIndex, indexOf } from "./index_keys.ts";
import type { CreateAttr, MapRecord, MapStore, MapType } from "./map.ts";
import { type MapFacts, PLAIN_FACTS, SECOND_PROGRAM } from "./map_facts.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { fill, TARGET_SLOTS } from "./target_slots.ts";
import { programIn } from "./xdp_programs.ts";

export const DEVMAP_FACTS: MapFacts = {
  ...PLAIN_FACTS,
  value: SECOND_PROGRAM,
  toInterfaces: true,
  capability: "CAP_NET_ADMIN",
};

export function checkDevmap(attr: CreateAttr): Refusal | null {
  return checkArray(attr, ARRAY_FLAGS, "a devmap's") ?? checkValueSize(attr, 4, 8);
}

/**
 * The flags in the map's record: the kernel makes the map read-only for programs, which get a pointer from a lookup.
 */
export function readOnlyForPrograms(attr: CreateAttr): Pick<MapRecord, "mapFlags"> {
  return {
    mapFlags:
      (attr.mapFlags & ~(BPF_F.BPF_F_RDONLY | BPF_F.BPF_F_WRONLY | BPF_F.BPF_F_TOKEN_FD)) | BPF_F.BPF_F_RDONLY_PROG,
  };
}

/** __dev_map_alloc_node(): the program in a value whose interface must exist; 0: none. */
export function interfaceProgram(store: MapStore, value: Buffer): number | Refusal {
  const ifindex = value.readUInt32LE(0);
  if (!store.world.hasInterface(ifindex)) return refuse("EINVAL", `there is no interface ${ifindex}`);
  return programIn(store, value, BPF_ATTACH_TYPE.BPF_XDP_DEVMAP);
}

export const devmap: MapType = {
  ...TARGET_SLOTS,
  facts: DEVMAP_FACTS,
  allocCheck: checkDevmap,
  alloc: () => null,
  recorded: readOnlyForPrograms,
  allocatedBytes: (attr) => attr.maxEntries * 8,

  update(store, key, value, flags) {
    const refusal = checkUpdateFlags(flags) ?? checkIndex(store.map, indexOf(key), "E2BIG");
    if (refusal !== null) return refusal;
    if (flags === BPF_ELEM.BPF_NOEXIST) return refuse("EEXIST", "BPF_NOEXIST, but every index exists from the start");
    const ifindex = value.readUInt32LE(0);
    if (ifindex === 0) {
      if (value.length === 8 && value.readInt32LE(4) > 0)
        return refuse("EINVAL", "ifindex is 0, but the value has a program");
      return fill(store, key, 0, 0);
    }
    const program = interfaceProgram(store, value);
    return typeof program === "number" ? fill(store, key, ifindex, program) : program;
  },
};
