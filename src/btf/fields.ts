/**
 * Special fields: fields that only programs access, such as locks and timers. enum btf_field_type, and the facts of
 * each kind.
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { SpecialKind } from "../maps/map_facts.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";

const { PTR, STRUCT, TYPE_TAG, VOLATILE } = BTF_KIND;

type KernelPointer = "kptr" | "kptr_untrusted" | "percpu_kptr";

export type FieldKind =
  | SpecialKind
  | KernelPointer
  | ("bpf_refcount" | "bpf_list_head" | "bpf_list_node" | "bpf_rb_root" | "bpf_rb_node");

interface Facts {
  /** Bytes. */
  readonly size: number;
  readonly align: number;
  /**
   * A struct may have several members of this kind: is_unique of struct btf_field_desc is false. Structs nested in it
   * are searched on their own.
   */
  readonly beside: boolean;
  /**
   * A value may have several fields of this kind, counting nested structs. If false, btf_parse_fields() prints a WARNING
   * for the second one.
   */
  readonly many: boolean;
  /** A field of this kind may be the element of an array with several elements: btf_repeat_fields(). */
  readonly repeats: boolean;
}

const single = (size: number, align: number): Facts => ({ size, align, beside: false, many: false, repeats: false });
const node = (size: number): Facts => ({ size, align: 8, beside: true, many: true, repeats: false });
const holder = (size: number): Facts => ({ size, align: 8, beside: true, many: true, repeats: true });

/** Sizes and alignments as in <linux/bpf.h>. */
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

/** A special field of a value or object. `offset`: in bytes. */
export interface Field {
  readonly kind: FieldKind;
  readonly offset: number;
  /** The struct that a kernel pointer points to; 0 for other kinds. */
  readonly to: number;
  /** The elements of a list or tree; null for other kinds. */
  readonly contains: Contents | null;
}

/** A declaration tag "contains:struct:member". */
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
 * btf_find_kptr(): a pointer (also a volatile one) to a struct, whose first type tag is one of POINTERS. null: it is
 * another pointer, or none. EINVAL if the tags are not allowed.
 */
export function kernelPointer(btf: Btf, type: number): { kind: KernelPointer; to: number } | Refusal | null {
  const pointer = btf.kind(type) === VOLATILE ? btf.target(type) : type;
  if (btf.kind(pointer) !== PTR) return null;
  const tag = btf.target(pointer);
  if (btf.kind(tag) !== TYPE_TAG || btf.kindFlag(tag)) return null;
  const of = btf.target(tag);
  if (btf.kind(of) === TYPE_TAG) return refuse("EINVAL", `BTF's type ${tag} is a type tag followed by another`);
  const name = btf.name(tag);
  if (name === "uptr") return null;
  if (!POINTERS.has(name)) return refuse("EINVAL", `BTF's type ${tag} is a type tag that pointers cannot have`);
  const to = btf.plain(of);
  if (btf.kind(to) !== STRUCT)
    return refuse("EINVAL", `BTF's type ${pointer} is a ${name} that does not point to a struct`);
  return { kind: name as KernelPointer, to };
}
