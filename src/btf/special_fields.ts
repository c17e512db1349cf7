import { BTF_KIND } from "../maps/btf_types.ts";
import type { SpecialField } from "../maps/map.ts";
import { SPECIAL_KINDS, type SpecialKind } from "../maps/map_facts.ts";
import { isRefusal, Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";
import { Finder } from "./field_finder.ts";
import { FIELDS, type Field, type FieldKind } from "./fields.ts";

/** The fields in values that only programs touch: btf_parse_fields() and what calls it, kernel/bpf/btf.c. */

/** A map's record keeps those of SpecialKind alone. */
const IN_VALUES: ReadonlySet<FieldKind> = new Set([...SPECIAL_KINDS, "bpf_refcount"]);

/** EOPNOTSUPP if one of these fields is not among those that maps of a type can have. */
export function checkSpecial(allowed: readonly SpecialKind[], fields: readonly SpecialField[]): Refusal | null {
  const wrong = fields.find(({ kind }) => !allowed.includes(kind));
  return wrong === undefined ? null : refuse("EOPNOTSUPP", `values of this map type cannot have a ${wrong.kind}`);
}

function isKept(kind: FieldKind): kind is SpecialKind {
  return (SPECIAL_KINDS as readonly FieldKind[]).includes(kind);
}

/**
 * What is special in a value of this type, in nested structs and arrays, too. A type whose fields the kernel cannot make
 * sense of has none: map_check_btf() passes over the error.
 */
export function specialFields(btf: Btf, id: number): readonly SpecialField[] {
  if (btf.kind(id) !== BTF_KIND.STRUCT) return [];
  const parsed = parseFields(new Finder(btf, IN_VALUES), id);
  const fields = parsed instanceof Warned ? parsed.fields : isRefusal(parsed) ? [] : parsed;
  return fields
    .filter((field): field is Field & SpecialField => isKept(field.kind))
    .map(({ kind, offset }) => ({ kind, offset, size: FIELDS[kind].size }));
}

/**
 * Why a map cannot have values of this type, although the kernel would make it: btf_parse_fields() prints a WARNING for it,
 * which stops a machine that has panic_on_warn.
 */
export function valueWarning(btf: Btf, id: number): Refusal | null {
  const parsed = parseFields(new Finder(btf, IN_VALUES), id);
  return parsed instanceof Warned ? parsed : null;
}

/** A refusal in place of a WARNING of the kernel's. `fields`: those that the kernel has behind it, and maps of older logs. */
export class Warned extends Refusal {
  readonly fields: readonly Field[];

  constructor(errno: Refusal["errno"], detail: string, fields: readonly Field[]) {
    super(errno, detail);
    this.fields = fields;
  }
}

/**
 * btf_parse_fields(): in the order of their offsets. `check`: what else there is to say of a field of its kind. What the
 * kernel would refuse behind a WARNING is a Warned with that errno.
 */
export function parseFields(
  finder: Finder,
  id: number,
  check: (field: Field) => Refusal | null = () => null,
): readonly Field[] | Refusal {
  const found = finder.find(id);
  if (isRefusal(found)) return found;
  let [end, warning]: [number, string | null] = [0, null];
  let refusal: Refusal | null = null;
  const seen: FieldKind[] = [];
  for (const field of found) {
    const { kind, offset } = field;
    if (offset < end) refusal = refuse("EEXIST", `the ${kind} at ${offset} overlaps another`);
    else {
      warning ??= warningOf(field, seen);
      refusal = check(field);
    }
    if (refusal !== null) break;
    seen.push(kind);
    end = offset + FIELDS[kind].size;
  }
  refusal ??= contradiction(seen);
  if (warning !== null) return new Warned(refusal?.errno ?? "E2BIG", warning, refusal === null ? found : []);
  return refusal ?? found;
}

/** What makes the kernel print a WARNING, one of WARN_ON_ONCE() in btf_parse_fields(); null: nothing. */
function warningOf({ kind, offset }: Field, seen: readonly FieldKind[]): string | null {
  const first = kind === "bpf_res_spin_lock" ? "bpf_spin_lock" : kind;
  if (!seen.includes(first) || FIELDS[kind].many) return null;
  return `the ${kind} at ${offset} stands behind a ${first}, for which the kernel would print a WARNING`;
}

/** What fields that are all in their places cannot be beside each other. */
function contradiction(kinds: readonly FieldKind[]): Refusal | null {
  const [lock, resilient] = [kinds.includes("bpf_spin_lock"), kinds.includes("bpf_res_spin_lock")];
  if (lock && resilient) return refuse("EINVAL", "the value has a bpf_spin_lock and a bpf_res_spin_lock");
  if ((kinds.includes("bpf_list_head") || kinds.includes("bpf_rb_root")) && !lock && !resilient)
    return refuse("EINVAL", "a struct with a bpf_list_head or a bpf_rb_root needs a lock");
  if (kinds.includes("bpf_list_node") && kinds.includes("bpf_rb_node") && !kinds.includes("bpf_refcount"))
    return refuse("EINVAL", "a struct with a bpf_list_node and a bpf_rb_node needs a bpf_refcount");
  return null;
}
