/**
 * BPF_MAP_TYPE_STRUCT_OPS. Source: kernel/bpf/bpf_struct_ops.c. Its one element is a struct of functions which the
 * running kernel calls, of a type that only this kernel's BTF has. The ledger has no such BTF: it makes the checks that
 * come before the type is looked up, and then finds no type.
 */

import { BPF_F } from "../abi/bpf.ts";
import { checkFlags, checkKeySize } from "./common.ts";
import { objectAt } from "./fd_object.ts";
import type { CreateAttr, Creator, MapType } from "./map.ts";
import { PLAIN_FACTS } from "./map_facts.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { withoutElements } from "./without_elements.ts";

const FLAGS = BPF_F.BPF_F_LINK | BPF_F.BPF_F_VTYPE_BTF_OBJ_FD;
const KERNEL_ONLY = refuse("ENOTSUPP", "struct_ops exist inside a kernel only: mapledger has no kernel's types");

/** bpf_struct_ops_map_alloc_check() */
function checkAttr(attr: CreateAttr): Refusal | null {
  const refusal = checkKeySize(attr, 4) ?? checkFlags(attr, FLAGS, "a struct_ops'");
  if (refusal !== null) return refusal;
  if (attr.maxEntries !== 1) return refuse("EINVAL", `max_entries is ${attr.maxEntries}: 1 required for a struct_ops`);
  return attr.btfVmlinuxValueTypeId === 0 ? refuse("EINVAL", "btf_vmlinux_value_type_id is 0") : null;
}

/**
 * bpf_struct_ops_map_alloc(): value_type_btf_obj_fd must be the BTF of a kernel module, which the ledger cannot have.
 */
function checkType(attr: CreateAttr, creator: Creator): Refusal {
  if ((attr.mapFlags & BPF_F.BPF_F_VTYPE_BTF_OBJ_FD) === 0) return KERNEL_ONLY;
  const btf = objectAt(creator, attr.valueTypeBtfObjFd, "btf", "EINVAL");
  return "id" in btf ? refuse("EINVAL", "value_type_btf_obj_fd is not the BTF of a kernel module") : btf;
}

export const structOps: MapType = {
  ...withoutElements(KERNEL_ONLY, KERNEL_ONLY),
  facts: { ...PLAIN_FACTS, inner: "never", kernelStruct: true },
  allocCheck: checkAttr,
  alloc: (attr, _host, creator) => checkType(attr, creator),
};
