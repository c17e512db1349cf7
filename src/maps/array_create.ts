/** The checks of a new array: array_map_alloc_check(), kernel/bpf/arraymap.c. */

import { BPF_F, BPF_MAP_TYPE } from "../abi/bpf.ts";
import { BTF_KIND, isInteger } from "./btf_types.ts";
import { ACCESS_FLAGS, checkEntries, checkFlags, checkKeySize, PROG_FLAGS } from "./common.ts";
import type { BtfType, CreateAttr } from "./map.ts";
import { type Refusal, refuse } from "./refusal.ts";

const INDEX_BYTES = 4;

/** Flags that every array type allows. */
export const ARRAY_FLAGS = BPF_F.BPF_F_NUMA_NODE | ACCESS_FLAGS;
export const DATA_ARRAY_FLAGS = ARRAY_FLAGS | PROG_FLAGS;

export function checkArray(attr: CreateAttr, flags: number, whose: string): Refusal | null {
  return (
    checkEntries(attr) ??
    checkKeySize(attr, INDEX_BYTES) ??
    (attr.valueSize === 0 ? refuse("EINVAL", "value_size is 0") : null) ??
    checkFlags(attr, flags, whose)
  );
}

/**
 * array_map_check_btf(): the key must be an integer of 32 bits; only an array of one element, a data section, may have
 * none.
 */
export function checkArrayBtf(attr: CreateAttr, key: BtfType | undefined, value: BtfType): Refusal | null {
  if (key !== undefined)
    return isInteger(key, 32) ? null : refuse("EINVAL", "the key's BTF type is not an integer of 32 bits");
  const plain = attr.mapType === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY;
  if (plain && attr.maxEntries === 1 && value.kind === BTF_KIND.DATASEC) return null;
  return refuse("EINVAL", "btf_key_type_id is 0: only allowed for an array with one element, a data section");
}
