/** BPF_MAP_TYPE_ARENA: memory that programs and user space share. Source: kernel/bpf/arena.c. */

import { BPF_F } from "../abi/bpf.ts";
import { ARENA_PAGES_MAX } from "../abi/limits.ts";
import { checkEntries, checkFlags, checkKeySize, checkValueSize } from "./common.ts";
import type { CreateAttr, Host, MapType } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { withoutElements } from "./without_elements.ts";

const FLAGS = BPF_F.BPF_F_MMAPABLE | BPF_F.BPF_F_SEGV_ON_FAULT | BPF_F.BPF_F_NO_USER_CONV;
const NO_LOOKUP = refuse("EINVAL", "an arena has no elements");
const NO_ELEMENTS = refuse("EOPNOTSUPP", "an arena has no elements");
const U32_BITS = 32n;

function checkArena(attr: CreateAttr, { pageBytes }: Host): Refusal | null {
  const refusal =
    checkKeySize(attr, 0) ?? checkValueSize(attr, 0) ?? checkEntries(attr) ?? checkFlags(attr, FLAGS, "an arena's");
  if (refusal !== null) return refusal;
  if ((attr.mapFlags & BPF_F.BPF_F_MMAPABLE) === 0)
    return refuse("EINVAL", "BPF_F_MMAPABLE is required in an arena's map_flags");
  if (attr.mapExtra % BigInt(pageBytes) !== 0n)
    return refuse("EINVAL", `map_extra is ${attr.mapExtra}: a multiple of ${pageBytes} required, the size of a page`);
  if (attr.maxEntries > ARENA_PAGES_MAX)
    return refuse("E2BIG", `max_entries is ${attr.maxEntries} pages: more than ${ARENA_PAGES_MAX}`);
  const last = BigInt.asUintN(64, attr.mapExtra + BigInt(attr.maxEntries * pageBytes) - 1n);
  if (attr.mapExtra >> U32_BITS !== last >> U32_BITS)
    return refuse("ERANGE", `map_extra is ${attr.mapExtra}: the arena's addresses would cross a multiple of 4 GiB`);
  return null;
}

export const arena: MapType = {
  ...withoutElements(NO_LOOKUP, NO_ELEMENTS),
  facts: { ...PLAIN_FACTS, mapExtra: true, memory: "kernel only" },
  allocCheck: () => null,
  alloc: checkArena,
};
