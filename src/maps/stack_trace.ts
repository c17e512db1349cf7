/**
 * BPF_MAP_TYPE_STACK_TRACE. Source: kernel/bpf/stackmap.c. Only programs store stacks. The ledger runs none, so it has
 * no elements, and answers as a map that no program uses.
 */

import { BPF_F } from "../abi/bpf.ts";
import { STACK_FRAMES_MAX, STACK_TRACE_ENTRIES_MAX } from "../abi/limits.ts";
import { ARRAY_FLAGS } from "./array_create.ts";
import { checkEntries, checkFlags, checkKeySize, NO_BATCHES, noBtf, powerOf2, USUAL } from "./common.ts";
import type { CreateAttr, MapRecord, MapType } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";
import { NEVER_FILLED } from "./without_elements.ts";

const ADDRESS_BYTES = 8;
/** sizeof(struct bpf_stack_build_id) */
const BUILD_ID_BYTES = 32;
const ABSENT = refuse("ENOENT", "no program has stored a stack with this id");

function checkSizes(attr: CreateAttr): Refusal | null {
  const refusal =
    checkFlags(attr, ARRAY_FLAGS | BPF_F.BPF_F_STACK_BUILD_ID, "a stack trace's") ??
    checkEntries(attr) ??
    checkKeySize(attr, 4);
  if (refusal !== null) return refusal;
  const frameBytes = (attr.mapFlags & BPF_F.BPF_F_STACK_BUILD_ID) === 0 ? ADDRESS_BYTES : BUILD_ID_BYTES;
  const frames = attr.valueSize / frameBytes;
  if (frames < 1 || !Number.isInteger(frames) || frames > STACK_FRAMES_MAX)
    return refuse(
      "EINVAL",
      `value_size is ${attr.valueSize}: ${frameBytes} bytes for each of 1 to ${STACK_FRAMES_MAX} frames required`,
    );
  if (attr.maxEntries > STACK_TRACE_ENTRIES_MAX)
    return refuse("E2BIG", `max_entries is ${attr.maxEntries}: more than ${STACK_TRACE_ENTRIES_MAX}`);
  return null;
}

function bucketCount(map: Pick<MapRecord, "maxEntries">): number {
  return powerOf2(map.maxEntries);
}

export const stackTrace: MapType = {
  ...USUAL,
  facts: PLAIN_FACTS,
  checkBtf: noBtf,
  allocCheck: () => null,
  alloc: checkSizes,
  allocatedBytes: (attr) => bucketCount(attr) * 8 + attr.maxEntries * (16 + attr.valueSize),
  lookup: () => ABSENT,
  update: refused("EINVAL", "only programs can store stacks"),

  delete({ map }, key) {
    const id = key.readUInt32LE(0);
    return id < bucketCount(map)
      ? ABSENT
      : refuse("E2BIG", `id ${id}: more than ${bucketCount(map) - 1}, the largest id`);
  },

  nextKey: () => ABSENT,
  lookupAndDelete: () => ABSENT,
  batch: NO_BATCHES,
  ...NEVER_FILLED,
  stored: () => [],
};
