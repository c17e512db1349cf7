import { BPF_MAP_TYPE } from "../abi/bpf.ts";
import { BTF_KIND } from "../maps/btf_types.ts";
import type { SpecialField, SpecialKind } from "../maps/map.ts";
import { Refusal, refuse } from "../maps/refusal.ts";
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

/** A field that btf_parse_fields() finds; a map's record keeps those of SpecialKind alone. */
type FieldKind = SpecialKind | "bpf_refcount" | "bpf_list_node" | "bpf_rb_node";

interface Field {
  readonly kind: FieldKind;
  readonly offset: number;
  readonly size: number;
}

type Kinds = Readonly<Partial<Record<FieldKind, { size: number; align: number }>>>;

const { bpf_spin_lock, bpf_res_spin_lock } = SPECIAL;
const bpf_refcount = { size: 4, align: 4 };
const IN_VALUES: Kinds = { ...SPECIAL, bpf_refcount };
/** Those that BPF_BTF_LOAD looks for. */
const IN_OBJECTS: Kinds = {
  bpf_spin_lock,
  bpf_res_spin_lock,
  bpf_refcount,
  bpf_list_node: { size: 24, align: 8 },
  bpf_rb_node: { size: 32, align: 8 },
};
/** alloc_obj_fields */
const OBJECTS_HAVE = ["bpf_spin_lock", "bpf_list_head", "bpf_list_node", "bpf_rb_root", "bpf_rb_node", "bpf_refcount"];
const KPTR_TAGS: ReadonlySet<string> = new Set(["kptr", "kptr_untrusted", "percpu_kptr"]);
/** Of these one struct may have several: struct btf_field_desc's is_unique. */
const MANY: ReadonlySet<FieldKind> = new Set(["bpf_refcount", "bpf_list_node", "bpf_rb_node"]);
/** Of these any number may be recorded. */
const NODES: ReadonlySet<FieldKind> = new Set(["bpf_list_node", "bpf_rb_node"]);

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
  if (btf.kind(id) !== BTF_KIND.STRUCT) return [];
  const found = new Finder(btf, IN_VALUES).find(id);
  const fields = found instanceof Warned ? found.fields : isRefusal(found) ? [] : found;
  return fields.filter((field): field is SpecialField => Object.hasOwn(SPECIAL, field.kind));
}

/**
 * Why a map cannot have values of this type, although the kernel would make it: btf_parse_fields() prints a WARNING for it,
 * which stops a machine that has panic_on_warn.
 */
export function valueWarning(btf: Btf, id: number): Refusal | null {
  const found = new Finder(btf, IN_VALUES).find(id);
  return found instanceof Warned ? found : null;
}

/**
 * btf_parse_struct_metas(): programs may allocate what has one of OBJECTS_HAVE or a kernel pointer for a member, and so
 * there must be something to find in it.
 */
export function checkObjects(btf: Btf): Refusal | null {
  const named = OBJECTS_HAVE.map((name) => structNamed(btf, name));
  const finder = new Finder(btf, IN_OBJECTS);
  for (let id = 1; id < btf.count; id++) {
    if (btf.kind(id) !== BTF_KIND.STRUCT) continue;
    const has = membersAmong(btf, id, named);
    if (!has.known && !has.other) continue;
    const found = finder.find(id);
    if (isRefusal(found)) return found;
    if (found.length === 0 && !has.other)
      return refuse("EFAULT", `BTF's type ${id} has a bpf_spin_lock, or another such field, of a wrong size or place`);
  }
  return null;
}

/** What BPF_BTF_LOAD refuses only so that the kernel prints no WARNING, or with an errno that would come after one. */
export function objectsWarning(btf: Btf): Refusal | null {
  const refusal = checkObjects(btf);
  return refusal instanceof Warned ? refusal : null;
}

/** The first one, as btf_find_by_name_kind() has it; null: there is none. */
function structNamed(btf: Btf, name: string): number | null {
  for (let id = 1; id < btf.count; id++) if (btf.kind(id) === BTF_KIND.STRUCT && btf.name(id) === name) return id;
  return null;
}

/** `known`: members that the finder looks for; `other`: a list, a tree or a kernel pointer, which it does not know. */
function membersAmong(btf: Btf, id: number, named: readonly (number | null)[]): { known: boolean; other: boolean } {
  const has = { known: false, other: false };
  for (let at = 0; at < btf.memberCount(id); at++) {
    const type = btf.memberType(id, at);
    const name = OBJECTS_HAVE[named.indexOf(type)];
    if (name !== undefined && Object.hasOwn(IN_OBJECTS, name)) has.known = true;
    else if (name !== undefined || isKernelPointer(btf, type)) has.other = true;
  }
  return has;
}

/** btf_find_kptr() */
function isKernelPointer(btf: Btf, type: number): boolean {
  const pointer = btf.kind(type) === BTF_KIND.VOLATILE ? btf.target(type) : type;
  if (btf.kind(pointer) !== BTF_KIND.PTR) return false;
  const tag = btf.target(pointer);
  return btf.kind(tag) === BTF_KIND.TYPE_TAG && !btf.kindFlag(tag) && KPTR_TAGS.has(btf.name(tag));
}

/** A refusal in place of a WARNING of the kernel's. `fields`: those that the kernel has behind it, and maps of older logs. */
class Warned extends Refusal {
  readonly fields: readonly Field[];

  constructor(errno: Refusal["errno"], detail: string, fields: readonly Field[]) {
    super(errno, detail);
    this.fields = fields;
  }
}

class Finder {
  readonly #btf: Btf;
  readonly #kinds: Kinds;
  /** A struct may be in many others: each is looked into once. */
  readonly #known = new Map<number, readonly Field[]>();

  constructor(btf: Btf, kinds: Kinds) {
    this.#btf = btf;
    this.#kinds = kinds;
  }

  /** btf_parse_fields(): in the order of members. */
  find(id: number): readonly Field[] | Refusal {
    const found = this.#btf.kind(id) === BTF_KIND.DATASEC ? this.#inSection(id) : this.#inStruct(id, 0);
    if (isRefusal(found)) return found;
    const overlaps = found.findIndex(({ offset }, at) => at > 0 && offset < end(found[at - 1] as Field));
    const warned = warnedOf(overlaps === -1 ? found : found.slice(0, overlaps));
    const refusal = overlaps === -1 ? contradiction(found) : overlap(found[overlaps] as Field);
    if (warned !== null) return new Warned(refusal?.errno ?? "E2BIG", warned, refusal === null ? found : []);
    return refusal ?? found;
  }

  /** btf_find_datasec_var(): a variable's section says its size, too. */
  #inSection(id: number): readonly Field[] | Refusal {
    const found: Field[] = [];
    const seen = new Set<string>();
    for (let at = 0; at < this.#btf.memberCount(id); at++) {
      const { type, offset, size } = this.#btf.variable(id, at);
      const its = this.#inMember(this.#btf.target(type), offset, { seen, depth: 0, size });
      if (isRefusal(its)) return its;
      found.push(...its);
      if (found.length > FIELDS_MAX) return tooMany();
    }
    return found;
  }

  /** btf_find_struct_field(): offsets are those in this struct, of which each kind may be once. */
  #inStruct(id: number, depth: number): readonly Field[] | Refusal {
    if (this.#btf.kind(id) !== BTF_KIND.STRUCT) return [];
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    if (depth >= DEPTH_MAX) return refuse("E2BIG", `structs are nested deeper than ${DEPTH_MAX}`);
    const found: Field[] = [];
    const seen = new Set<string>();
    for (let at = 0; at < this.#btf.memberCount(id); at++) {
      const offsetBits = this.#btf.memberOffsetBits(id, at);
      if (offsetBits % 8 !== 0) return refuse("EINVAL", `a member begins at bit ${offsetBits}`);
      const its = this.#inMember(this.#btf.memberType(id, at), offsetBits / 8, { seen, depth, size: null });
      if (isRefusal(its)) return its;
      found.push(...its);
      if (found.length > FIELDS_MAX) return tooMany();
    }
    this.#known.set(id, found);
    return found;
  }

  /**
   * btf_find_field_one(): what has the name of a special field but not its size, or lies crookedly, is ignored; so is a
   * variable whose section says another size than its type.
   */
  #inMember(type: number, offset: number, { seen, depth, size }: Around): readonly Field[] | Refusal {
    const elements = this.#elements(type);
    if (isRefusal(elements)) return elements;
    const { id, count } = elements;
    if (count === 0) return [];
    const name = this.#btf.name(id);
    if (Object.hasOwn(this.#kinds, name) && !MANY.has(name as FieldKind)) {
      if (seen.has(name)) return refuse("E2BIG", `the value has more than one ${name}`);
      seen.add(name);
    }
    const kind = Object.hasOwn(this.#kinds, name) ? (name as FieldKind) : null;
    const each = kind === null ? this.#btf.target(id) : (this.#kinds[kind]?.size ?? 0);
    if (size !== null && size !== each * count) return [];
    const its = kind === null ? this.#inStruct(id, depth + 1) : this.#asSpecial(kind, id, offset);
    if (isRefusal(its) || its.length === 0) return its;
    if (count > 1) return refuse("EINVAL", `a ${its[0]?.kind} in an array of ${count}`);
    return its.map((field) => ({ ...field, offset: field.offset + offset }));
  }

  /** At 0: the member's place is added like that of others. */
  #asSpecial(kind: FieldKind, id: number, at: number): readonly Field[] {
    const { size, align } = this.#kinds[kind] as { size: number; align: number };
    const fits = this.#btf.kind(id) === BTF_KIND.STRUCT && this.#btf.target(id) === size && at % align === 0;
    return fits ? [{ kind, offset: 0, size }] : [];
  }

  /** What an array has, an array of arrays, too, and how many of it; anything else is one of itself. */
  #elements(type: number): { readonly id: number; readonly count: number } | Refusal {
    let [id, count] = [type, 1];
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      if (this.#btf.kind(id) !== BTF_KIND.ARRAY) return { id, count };
      const { element, count: times } = this.#btf.array(id);
      [id, count] = [element, count * times];
    }
    return refuse("E2BIG", `arrays are nested deeper than ${DEPTH_MAX}`);
  }
}

/** `seen`: kinds that the struct or section has had; `size`: of a section's variable, null in a struct. */
interface Around {
  readonly seen: Set<string>;
  readonly depth: number;
  readonly size: number | null;
}

function overlap({ kind, offset }: Field): Refusal {
  return refuse("EEXIST", `the ${kind} at ${offset} overlaps another`);
}

/** What makes the kernel print a WARNING, one of WARN_ON_ONCE() in btf_parse_fields(); null: nothing. */
function warnedOf(fields: readonly Field[]): string | null {
  const seen = new Set<FieldKind>();
  for (const { kind, offset } of fields) {
    const first = kind === "bpf_res_spin_lock" ? "bpf_spin_lock" : kind;
    if (seen.has(first) && !NODES.has(kind))
      return `the ${kind} at ${offset} stands behind a ${first}, for which the kernel would print a WARNING`;
    seen.add(kind);
  }
  return null;
}

function contradiction(fields: readonly Field[]): Refusal | null {
  const kinds = new Set(fields.map(({ kind }) => kind));
  if (kinds.has("bpf_spin_lock") && kinds.has("bpf_res_spin_lock"))
    return refuse("EINVAL", "the value has a bpf_spin_lock and a bpf_res_spin_lock");
  if (kinds.has("bpf_list_node") && kinds.has("bpf_rb_node") && !kinds.has("bpf_refcount"))
    return refuse("EINVAL", "a struct with a bpf_list_node and a bpf_rb_node needs a bpf_refcount");
  return null;
}

function tooMany(): Refusal {
  return refuse("E2BIG", `the value has more than ${FIELDS_MAX} special fields`);
}

function end({ offset, size }: Field): number {
  return offset + size;
}
