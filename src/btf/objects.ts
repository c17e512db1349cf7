/**
 * Checks the objects that programs may allocate: btf_parse_struct_metas() and btf_check_and_fixup_fields(),
 * kernel/bpf/btf.c.
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";
import { Finder } from "./field_finder.ts";
import { type Contents, type Field, type FieldKind, kernelPointer } from "./fields.ts";
import { parseFields } from "./special_fields.ts";

const { DECL_TAG, STRUCT } = BTF_KIND;

/** alloc_obj_fields: a struct with a member of one of these kinds, or with a kernel pointer, is such an object. */
const OBJECTS_HAVE: ReadonlySet<string> = new Set<FieldKind>([
  "bpf_spin_lock",
  "bpf_list_head",
  "bpf_list_node",
  "bpf_rb_root",
  "bpf_rb_node",
  "bpf_refcount",
]);
/** The kinds of fields that are searched for in an object. */
const IN_OBJECTS: ReadonlySet<FieldKind> = new Set([
  ...(OBJECTS_HAVE as ReadonlySet<FieldKind>),
  ...(["bpf_res_spin_lock", "kptr", "kptr_untrusted", "percpu_kptr"] as const),
]);
/** BPF_GRAPH_NODE: nodes, and the kind of node that the elements of each root have. */
const NODES: ReadonlySet<FieldKind> = new Set(["bpf_list_node", "bpf_rb_node"]);
const NODE_OF: Readonly<Partial<Record<FieldKind, FieldKind>>> = {
  bpf_list_head: "bpf_list_node",
  bpf_rb_root: "bpf_rb_node",
};
const NODE_ALIGN_BITS = 64;
/**
 * register_btf_id_dtor_kfuncs(): structs that the kernel can destroy. Each has the name of its destructor, or of a
 * function that is in the kernel exactly if the destructor is.
 */
const DESTRUCTORS: Readonly<Record<string, string>> = {
  task_struct: "bpf_task_release_dtor",
  cgroup: "bpf_cgroup_release_dtor",
  bpf_cpumask: "bpf_cpumask_release_dtor",
  bpf_crypto_ctx: "bpf_crypto_ctx_release_dtor",
  prog_test_ref_kfunc: "bpf_kfunc_call_test_release_dtor",
  prog_test_member: "bpf_kfunc_call_memb_release_dtor",
  sk_buff: "bpf_kfree_skb",
};
/** The kernel's name for types and members without a name. */
const NO_NAME = "(anon)";

/** Names of the kernel's structs that have no destructor: a kptr must not point to one. */
export type Undestroyed = () => ReadonlySet<string>;

/**
 * The kernel's structs without a destructor. `btf`: the kernel's own, whose strings contain the names of all of its
 * functions.
 */
export function undestroyed(btf: Btf): ReadonlySet<string> {
  const names = new Set(structsOf(btf).keys());
  for (const [name, destructor] of Object.entries(DESTRUCTORS))
    if (btf.strings.includes(`\0${destructor}\0`)) names.delete(name);
  return names;
}

const NONE: ReadonlySet<string> = new Set();

/**
 * An object must have a field of the right size and place (EFAULT). Its lists and trees must have a tag that names their elements
 * (EINVAL), with a struct and member that exist (ENOENT). A kptr that owns a kernel struct must point to one with a
 * destructor (ENOENT). No object may contain itself through lists and trees (ELOOP).
 */
export function checkObjects(btf: Btf, undestroyed: Undestroyed = () => NONE): Refusal | null {
  const marks = marksOfObjects(btf);
  if (marks === null) return null;
  const graph = new Graph(btf);
  const finder = new Finder(btf, IN_OBJECTS, (id, member) => graph.contents(id, member));
  const check = (field: Field): Refusal | null => checkPointer(btf, field, undestroyed) ?? graph.checkElements(field);
  const objects = new Map<number, readonly Field[]>();
  for (let id = 1; id < btf.count; id++) {
    if (btf.kind(id) !== STRUCT || !hasMarked(btf, id, marks)) continue;
    const fields = parseFields(finder, id, check);
    if (isRefusal(fields)) return fields;
    if (fields.length === 0)
      return refuse(
        "EFAULT",
        `BTF's type ${id} has a special field, such as a bpf_spin_lock, of a wrong size or place`,
      );
    objects.set(id, fields);
  }
  for (const fields of objects.values()) {
    const refusal = checkOwnership(fields, objects);
    if (refusal !== null) return refusal;
  }
  return null;
}

/**
 * By type id, 1: a struct with a member of this type is an object. Of several structs with one name only the first
 * counts. null: there are none.
 */
function marksOfObjects(btf: Btf): Uint8Array | null {
  const marks = new Uint8Array(btf.count);
  const found = new Set<string>();
  let any = false;
  for (let id = 1; id < btf.count; id++) {
    const name = btf.kind(id) === STRUCT ? btf.name(id) : "";
    const isFirst = OBJECTS_HAVE.has(name) && !found.has(name);
    if (isFirst) found.add(name);
    const pointer = isFirst ? null : kernelPointer(btf, id);
    if (!isFirst && (pointer === null || isRefusal(pointer))) continue;
    marks[id] = 1;
    any = true;
  }
  return any ? marks : null;
}

function hasMarked(btf: Btf, id: number, marks: Uint8Array): boolean {
  for (let at = 0; at < btf.memberCount(id); at++) if (marks[btf.memberType(id, at)] === 1) return true;
  return false;
}

/** btf_parse_kptr(): a kptr to a struct that the kernel does not know is one to a program's own object. */
function checkPointer(btf: Btf, { kind, to }: Field, undestroyed: Undestroyed): Refusal | null {
  if (kind !== "kptr") return null;
  const name = btf.wholeName(to) || NO_NAME;
  return undestroyed().has(name) ? refuse("ENOENT", `a kptr is to a ${name}, which the kernel does not destroy`) : null;
}

/** An object with a node may not own elements that have a list or tree themselves: ownership could be circular. */
function checkOwnership(fields: readonly Field[], objects: ReadonlyMap<number, readonly Field[]>): Refusal | null {
  const isNode = fields.some(({ kind }) => NODES.has(kind));
  for (const { kind, contains } of fields) {
    if (contains === null) continue;
    const elements = objects.get(contains.struct);
    if (elements === undefined)
      return refuse("EFAULT", `a ${kind} contains BTF's type ${contains.struct}, which programs cannot allocate`);
    if (isNode && elements.some((field) => field.contains !== null))
      return refuse(
        "ELOOP",
        `a ${kind} beside a node contains BTF's type ${contains.struct}, which has a list or tree, too`,
      );
  }
  return null;
}

const CONTAINS = "contains:";

/** The elements of lists and trees. Indexes of tags, structs and members are built when they are first needed. */
class Graph {
  readonly #btf: Btf;
  #tags: ReadonlyMap<number, number> | null = null;
  #structs: ReadonlyMap<string, number> | null = null;
  readonly #members = new Map<number, ReadonlyMap<string, number>>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** btf_find_graph_root() */
  contents(id: number, member: number): Contents | Refusal {
    this.#tags ??= tagsOf(this.#btf);
    const tag = this.#tags.get(tagKey(id, member));
    if (tag === undefined || tag === SEVERAL)
      return refuse("EINVAL", `member ${member} of BTF's type ${id} needs one tag "contains:struct:member"`);
    const text = this.#btf.wholeName(tag).slice(CONTAINS.length);
    const colon = text.indexOf(":");
    if (colon === -1) return refuse("EINVAL", `BTF's type ${tag} does not name a member after its struct`);
    this.#structs ??= structsOf(this.#btf);
    const struct = this.#structs.get(text.slice(0, colon));
    if (struct === undefined) return refuse("ENOENT", `BTF's type ${tag} names a struct that is not there`);
    if (colon === text.length - 1) return refuse("EINVAL", `BTF's type ${tag} names no member`);
    return { struct, member: text.slice(colon + 1) };
  }

  /** btf_parse_graph_root(): the elements must have the node that the tag names, aligned to 8 bytes. */
  checkElements({ kind, contains }: Field): Refusal | null {
    if (contains === null) return null;
    const { struct, member } = contains;
    const at = this.#membersOf(struct).get(member);
    if (at === undefined) return refuse("ENOENT", `a ${kind} contains BTF's type ${struct}, which has no such member`);
    const type = at === SEVERAL ? 0 : this.#btf.memberType(struct, at);
    const isNode = this.#btf.kind(type) === STRUCT && this.#btf.name(type) === NODE_OF[kind];
    if (isNode && this.#btf.memberOffsetBits(struct, at) % NODE_ALIGN_BITS === 0) return null;
    return refuse("EINVAL", `a ${kind} contains BTF's type ${struct}, whose member is not a ${NODE_OF[kind]}`);
  }

  #membersOf(struct: number): ReadonlyMap<string, number> {
    const known = this.#members.get(struct);
    if (known !== undefined) return known;
    const members = new Map<string, number>();
    for (let at = 0; at < this.#btf.memberCount(struct); at++) {
      const name = this.#btf.memberName(struct, at) || NO_NAME;
      members.set(name, members.has(name) ? SEVERAL : at);
    }
    this.#members.set(struct, members);
    return members;
  }
}

/** The entry of a table in which a tag, or a member's name, occurs more than once. */
const SEVERAL = -1;

/** The "contains:" tags, by the member or variable that they are for. */
function tagsOf(btf: Btf): ReadonlyMap<number, number> {
  const tags = new Map<number, number>();
  for (let id = 1; id < btf.count; id++) {
    if (btf.kind(id) !== DECL_TAG || !btf.name(id).startsWith(CONTAINS)) continue;
    const key = tagKey(btf.target(id), btf.component(id));
    tags.set(key, tags.has(key) ? SEVERAL : id);
  }
  return tags;
}

/** A key for a type and a member (-1: the type itself); a member's number takes 16 bits. */
function tagKey(id: number, member: number): number {
  return id * 2 ** 17 + member + 1;
}

/** Structs by name; of several with one name the first. */
function structsOf(btf: Btf): ReadonlyMap<string, number> {
  const structs = new Map<string, number>();
  for (let id = btf.count - 1; id > 0; id--) if (btf.kind(id) === STRUCT) structs.set(btf.wholeName(id), id);
  return structs;
}
