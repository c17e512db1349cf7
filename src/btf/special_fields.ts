/** The special fields in maps' values: btf_parse_fields() and its callers, kernel/bpf/btf.c. */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { SpecialField } from "../maps/map.ts";
import { SPECIAL_KINDS, type SpecialKind } from "../maps/map_facts.ts";
import { isRefusal, Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";
import { Finder } from "./field_finder.ts";
import { FIELDS, type Field, type FieldKind } from "./fields.ts";

/** The kinds that are searched for in values. A map's record keeps only those of SpecialKind. */
const IN_VALUES: ReadonlySet<FieldKind> = new Set([...SPECIAL_KINDS, "bpf_refcount"]);

/** EOPNOTSUPP if a map of this type cannot have one of these fields: map_check_btf(). */
export function checkSpecial(allowed: readonly SpecialKind[], fields: readonly SpecialField[]): Refusal | null {
  const wrong = fields.find(({ kind }) => !allowed.includes(kind));
  return wrong === undefined ? null : refuse("EOPNOTSUPP", `values of this map type cannot have a ${wrong.kind}`);
}

function isKept(kind: FieldKind): kind is SpecialKind {
  return (SPECIAL_KINDS as readonly FieldKind[]).includes(kind);
}

/**
 * The special fields in a value of this type, also in nested structs and arrays. If the kernel refuses the type's
 * fields, there are none: map_check_btf() ignores that error.
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
 * Why a map with values of this type is refused although the kernel would create it: btf_parse_fields() prints a
 * WARNING, which halts a machine with panic_on_warn.
 */
export function valueWarning(btf: Btf, id: number): Refusal | null {
  const parsed = parseFields(new Finder(btf, IN_VALUES), id);
  return parsed instanceof Warned ? parsed : null;
}

/**
 * A refusal in place of a WARNING of the kernel. `fields`: the fields with which the kernel would continue after the
 * WARNING. Maps of older logs have them.
 */
export class Warned extends Refusal {
  readonly fields: readonly Field[];

  constructor(errno: Refusal["errno"], detail: string, fields: readonly Field[]) {
    super(errno, detail);
    this.fields = fields;
  }
}

/**
 * btf_parse_fields(): the fields in the order of their offsets. `check`: further checks of one field. A field that
 * makes the kernel print a WARNING results in a `Warned`, with the errno that the kernel would return after it.
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

/** Why the kernel would print a WARNING, a WARN_ON_ONCE() in btf_parse_fields(); null: it would not. */
function warningOf({ kind, offset }: Field, seen: readonly FieldKind[]): string | null {
  const first = kind === "bpf_res_spin_lock" ? "bpf_spin_lock" : kind;
  if (!seen.includes(first) || FIELDS[kind].many) return null;
  return `the ${kind} at ${offset} comes after a ${first}, for which the kernel would print a WARNING`;
}

/** Refuses combinations of fields that are valid one by one. */
function contradiction(kinds: readonly FieldKind[]): Refusal | null {
  const [lock, resilient] = [kinds.includes("bpf_spin_lock"), kinds.includes("bpf_res_spin_lock")];
  if (lock && resilient) return refuse("EINVAL", "the value has a bpf_spin_lock and a bpf_res_spin_lock");
  if ((kinds.includes("bpf_list_head") || kinds.includes("bpf_rb_root")) && !lock && !resilient)
    return refuse("EINVAL", "a struct with a bpf_list_head or a bpf_rb_root needs a lock");
  if (kinds.includes("bpf_list_node") && kinds.includes("bpf_rb_node") && !kinds.includes("bpf_refcount"))
    return refuse("EINVAL", "a struct with a bpf_list_node and a bpf_rb_node needs a bpf_refcount");
  return null;
}
