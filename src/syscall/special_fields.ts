import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { BTF_KIND } from "../maps/btf_types.ts";
import type { SpecialField, SpecialKind } from "../maps/map.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";
import { isRefusal } from "./outcome.ts";

/** The fields in values that only programs touch: btf_parse_fields() and what it calls, kernel/bpf/btf.c. */

/** MAX_RESOLVE_DEPTH */
const DEPTH_MAX = 32;
/** BTF_FIELDS_MAX */
const FIELDS_MAX = 11;

const DATA_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
]);
const LOCKED_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CGROUP_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_SK_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_INODE_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_TASK_STORAGE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_CGRP_STORAGE,
]);

/** Sizes in <linux/bpf.h>; in values of which map types: map_check_btf(). */
const SPECIAL: Readonly<Record<SpecialKind, { size: number; align: number; types: ReadonlySet<number> }>> = {
  bpf_spin_lock: { size: 4, align: 4, types: LOCKED_TYPES },
  bpf_res_spin_lock: { size: 4, align: 4, types: LOCKED_TYPES },
  bpf_timer: { size: 16, align: 8, types: DATA_TYPES },
  bpf_wq: { size: 16, align: 8, types: DATA_TYPES },
  bpf_task_work: { size: 8, align: 8, types: DATA_TYPES },
};

/** Those that BPF_BTF_LOAD looks for. */
const { bpf_spin_lock, bpf_res_spin_lock } = SPECIAL;
const LOCKS = { bpf_spin_lock, bpf_res_spin_lock };

/** EOPNOTSUPP where a map of this type cannot have one of these fields. */
export function checkSpecial(mapType: number, fields: readonly SpecialField[]): Refusal | null {
  const wrong = fields.find(({ kind }) => !SPECIAL[kind].types.has(mapType));
  return wrong === undefined ? null : refuse("EOPNOTSUPP", `values of this map type cannot have a ${wrong.kind}`);
}

/**
 * What is special in a value of this type, in nested structs and arrays, too. A type whose fields the kernel cannot make
 * sense of has none: map_check_btf() passes over the error.
 */
export function specialFields(btf: Btf, id: number): readonly SpecialField[] {
  const found = new Finder(btf, SPECIAL).find(id);
  return isRefusal(found) ? [] : found;
}

/**
 * btf_parse_struct_metas(): programs may allocate what has a bpf_spin_lock for a member, and so there must be something
 * to find in it.
 */
export function checkLocked(btf: Btf): Refusal | null {
  let lock = 1;
  while (lock < btf.count && (btf.kind(lock) !== BTF_KIND.STRUCT || btf.name(lock) !== "bpf_spin_lock")) lock++;
  const finder = new Finder(btf, LOCKS);
  for (let id = 1; lock < btf.count && id < btf.count; id++) {
    if (btf.kind(id) !== BTF_KIND.STRUCT || !btf.fields(id).some(({ type }) => type === lock)) continue;
    const found = finder.find(id);
    if (isRefusal(found)) return found;
    if (found.length === 0) return refuse("EFAULT", `BTF's type ${id} has a bpf_spin_lock of a wrong size or place`);
  }
  return null;
}

class Finder {
  readonly #btf: Btf;
  readonly #kinds: Partial<typeof SPECIAL>;
  /** A struct may be in many others: each is looked into once. */
  readonly #known = new Map<number, readonly SpecialField[]>();

  constructor(btf: Btf, kinds: Partial<typeof SPECIAL>) {
    this.#btf = btf;
    this.#kinds = kinds;
  }

  find(id: number): readonly SpecialField[] | Refusal {
    const found = this.#inStruct(id, 0);
    if (isRefusal(found)) return found;
    const overlap = found.find(({ offset }, at) => at > 0 && offset < end(found[at - 1] as SpecialField));
    if (overlap !== undefined) return refuse("EEXIST", `the ${overlap.kind} at ${overlap.offset} overlaps another`);
    const names = found.map(({ kind }) => kind);
    if (names.includes("bpf_spin_lock") && names.includes("bpf_res_spin_lock"))
      return refuse("EINVAL", "the value has a bpf_spin_lock and a bpf_res_spin_lock");
    return found;
  }

  /** btf_find_struct_field(): offsets are those in this struct, of which each kind may be once. */
  #inStruct(id: number, depth: number): readonly SpecialField[] | Refusal {
    if (this.#btf.kind(id) !== BTF_KIND.STRUCT) return [];
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    if (depth >= DEPTH_MAX) return refuse("E2BIG", `structs are nested deeper than ${DEPTH_MAX}`);
    const found: SpecialField[] = [];
    const seen = new Set<string>();
    for (const { type, offsetBits } of this.#btf.fields(id)) {
      if (offsetBits % 8 !== 0) return refuse("EINVAL", `a member begins at bit ${offsetBits}`);
      const its = this.#inMember(type, offsetBits / 8, seen, depth);
      if (isRefusal(its)) return its;
      found.push(...its);
      if (found.length > FIELDS_MAX) return refuse("E2BIG", `the value has more than ${FIELDS_MAX} special fields`);
    }
    this.#known.set(id, found);
    return found;
  }

  /** btf_find_field_one(): what has the name of a special field but not its size, or lies crookedly, is ignored. */
  #inMember(type: number, offset: number, seen: Set<string>, depth: number): readonly SpecialField[] | Refusal {
    const [id, count] = this.#elements(type);
    if (count === 0) return [];
    const name = this.#btf.name(id);
    const its = Object.hasOwn(this.#kinds, name)
      ? this.#asSpecial(name as SpecialKind, id, offset, seen)
      : this.#inStruct(id, depth + 1);
    if (isRefusal(its) || its.length === 0) return its;
    if (count > 1) return refuse("EINVAL", `a ${its[0]?.kind} in an array of ${count}`);
    return its.map((field) => ({ ...field, offset: field.offset + offset }));
  }

  /** At 0: the member's place is added like that of others. */
  #asSpecial(kind: SpecialKind, id: number, at: number, seen: Set<string>): readonly SpecialField[] | Refusal {
    if (seen.has(kind)) return refuse("E2BIG", `the value has more than one ${kind}`);
    seen.add(kind);
    const { size, align } = SPECIAL[kind];
    const fits = this.#btf.kind(id) === BTF_KIND.STRUCT && this.#btf.target(id) === size && at % align === 0;
    return fits ? [{ kind, offset: 0, size }] : [];
  }

  /** What an array has, an array of arrays, too, and how many of it; anything else is one of itself. */
  #elements(type: number): readonly [id: number, count: number] {
    let [id, count] = [type, 1];
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      if (this.#btf.kind(id) !== BTF_KIND.ARRAY) return [id, count];
      const { element, count: times } = this.#btf.array(id);
      [id, count] = [element, count * times];
    }
    return [id, 0];
  }
}

function end({ offset, size }: SpecialField): number {
  return offset + size;
}
