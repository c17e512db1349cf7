import { BTF_KIND } from "../maps/btf_types.ts";
import type { SpecialKind } from "../maps/map_facts.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";

/** Fields that only programs touch: enum btf_field_type, and what is known of each. */

const { PTR, STRUCT, TYPE_TAG, VOLATILE } = BTF_KIND;

type KernelPointer = "kptr" | "kptr_untrusted" | "percpu_kptr";

export type FieldKind =
  | SpecialKind
  | KernelPointer
  | ("bpf_refcount" | "bpf_list_head" | "bpf_list_node" | "bpf_rb_root" | "bpf_rb_node");

interface Facts {
  readonly size: number;
  readonly align: number;
  /** A struct may have several beside each other: struct btf_field_desc's is_unique. */
  readonly beside: boolean;
  /** Any number may be recorded of one struct. */
  readonly many: boolean;
  /** An array of several may have it: btf_repeat_fields(). */
  readonly repeats: boolean;
}

const single = (size: number, align: number): Facts => ({ size, align, beside: false, many: false, repeats: false });
const node = (size: number): Facts => ({ size, align: 8, beside: true, many: true, repeats: false });
const holder = (size: number): Facts => ({ size, align: 8, beside: true, many: true, repeats: true });

/** Sizes in <linux/bpf.h>. */
export const FIELDS: Readonly<Record<FieldKind, Facts>> = {
  bpf_spin_lock: single(4, 4),
  bpf_res_spin_lock: single(4, 4),
  bpf_timer: single(16, 8),
  bpf_wq: single(16, 8),
  bpf_task_work: single(8, 8),
  bpf_refcount: { ...single(4, 4), beside: true },
  bpf_list_node: node(24),
  bpf_rb_node: node(32),
  bpf_list_head: holder(16),
  bpf_rb_root: holder(16),
  kptr: holder(8),
  kptr_untrusted: holder(8),
  percpu_kptr: holder(8),
};

/** What a field is to others, by its kind: a pointer's struct; of a list or a tree what declares it. */
export interface Field {
  readonly kind: FieldKind;
  readonly offset: number;
  /** Of a kernel pointer: the struct that it is to. */
  readonly to: number;
  /** Of a list or a tree: what its elements are. */
  readonly contains: Contents | null;
}

/** Of a declaration tag "contains:struct:member". */
export interface Contents {
  readonly struct: number;
  readonly member: string;
}

export const POINTERS: ReadonlySet<string> = new Set([
  "kptr",
  "kptr_untrusted",
  "percpu_kptr",
] satisfies KernelPointer[]);
/**
 * btf_find_kptr(): a pointer to a struct whose first type tag says so, or `volatile` one. null: it is another pointer, or
 * none; EINVAL for tags that cannot be.
 */
export function kernelPointer(btf: Btf, type: number): { kind: KernelPointer; to: number } | Refusal | null {
  const pointer = btf.kind(type) === VOLATILE ? btf.target(type) : type;
  if (btf.kind(pointer) !== PTR) return null;
  const tag = btf.target(pointer);
  if (btf.kind(tag) !== TYPE_TAG || btf.kindFlag(tag)) return null;
  const of = btf.target(tag);
  if (btf.kind(of) === TYPE_TAG) return refuse("EINVAL", `BTF's type ${tag} is a type tag behind which is another`);
  const name = btf.name(tag);
  if (name === "uptr") return null;
  if (!POINTERS.has(name)) return refuse("EINVAL", `BTF's type ${tag} is a type tag that pointers cannot have`);
  const to = btf.plain(of);
  if (btf.kind(to) !== STRUCT) return refuse("EINVAL", `BTF's type ${pointer} is a ${name} to what is no struct`);
  return { kind: name as KernelPointer, to };
}
