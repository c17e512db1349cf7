/**
 * Storage of cgroup programs. The kernel makes an element when a program that uses the map is attached to a cgroup. The
 * ledger attaches no programs, so it has no elements, and answers as a map that no program uses.
 */

import { BPF_ELEM, BPF_F } from "../abi/bpf.ts";
import { CGROUP_STORAGE_VALUE_BYTES_MAX, PERCPU_VALUE_BYTES_MAX } from "../abi/limits.ts";
import { BTF_KIND, isInteger } from "./btf_types.ts";
import {
  ACCESS_FLAGS,
  checkFlags,
  checkNoEntries,
  NO_BATCHES,
  noLookupAndDelete,
  PROG_FLAGS,
  perCpuBytes,
  USUAL,
} from "./common.ts";
import type { BtfType, CreateAttr, MapType } from "./map.ts";
import { LOCKS, PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse, refused } from "./refusal.ts";
import { NEVER_FILLED } from "./without_elements.ts";

const FLAGS = BPF_F.BPF_F_NUMA_NODE | ACCESS_FLAGS | PROG_FLAGS;
const CGROUP_ID_BYTES = 8;
const CGROUP_KEY_BYTES = 16;

const EMPTY = refuse("ENOENT", "no program that uses this map was attached to this cgroup");

/** cgroup_storage_map_alloc() */
function checkStorage(attr: CreateAttr, valueMax: number): Refusal | null {
  if (attr.keySize !== CGROUP_ID_BYTES && attr.keySize !== CGROUP_KEY_BYTES)
    return refuse(
      "EINVAL",
      `key_size is ${attr.keySize}: 8 (a cgroup id) or 16 (struct bpf_cgroup_storage_key) required`,
    );
  if (attr.valueSize === 0) return refuse("EINVAL", "value_size is 0");
  if (attr.valueSize > valueMax) return refuse("E2BIG", `value_size is ${attr.valueSize}: more than ${valueMax}`);
  return checkFlags(attr, FLAGS, "cgroup storage's") ?? checkNoEntries(attr);
}

/** cgroup_storage_check_btf() */
function checkKey(attr: CreateAttr, key: BtfType | undefined): Refusal | null {
  const fits = attr.keySize === CGROUP_ID_BYTES ? isInteger(key, 64) : isStorageKey(key);
  return fits ? null : refuse("EINVAL", "the key's BTF type is neither a cgroup id nor struct bpf_cgroup_storage_key");
}

function isStorageKey(key: BtfType | undefined): boolean {
  if (key?.kind !== BTF_KIND.STRUCT || key.members.length !== 2) return false;
  const [id, attachType] = key.members;
  return (
    isInteger(id?.type, 64) && id?.offsetBits === 0 && isInteger(attachType?.type, 32) && attachType?.offsetBits === 64
  );
}

export function programStorage({ perCpu }: { perCpu: boolean }): MapType {
  const valueMax = perCpu ? PERCPU_VALUE_BYTES_MAX : CGROUP_STORAGE_VALUE_BYTES_MAX;
  return {
    ...USUAL,
    facts: { ...PLAIN_FACTS, perCpu, cgroupKeys: true, special: perCpu ? [] : LOCKS, inner: "never" },
    checkBtf: checkKey,
    allocCheck: () => null,
    alloc: (attr) => checkStorage(attr, valueMax),
    valueBytes: perCpu ? perCpuBytes : (map) => map.valueSize,
    lookup: () => EMPTY,

    update(_store, _key, _value, flags) {
      if (flags !== BPF_ELEM.BPF_ANY && flags !== BPF_ELEM.BPF_EXIST)
        return refuse("EINVAL", `flags ${flags}: BPF_ANY or BPF_EXIST required`);
      return EMPTY;
    },

    delete: refused("EINVAL", "elements of cgroup storage cannot be deleted"),
    nextKey: () => EMPTY,
    lookupAndDelete: noLookupAndDelete,
    batch: NO_BATCHES,
    ...NEVER_FILLED,
    stored: () => [],
  };
}
