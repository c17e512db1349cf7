import { BTF_KIND, MODIFIERS } from "../maps/btf_types.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";

const { TYPE_TAG } = BTF_KIND;
const VOID = 0;
const CHAIN_MAX = 32;

/**
 * btf_check_type_tags(): in a chain of modifiers type tags come first. As in the kernel, a chain is followed only until
 * it reaches an id at or below that of the modifier whose chain was checked last, and for 32 types at most (ELOOP).
 */
export function checkTypeTags(btf: Btf): Refusal | null {
  let looked = 0;
  for (let id = 1; id < btf.count; id++) {
    const kind = btf.kind(id) ?? VOID;
    if (!MODIFIERS.has(kind)) continue;
    let tagsMayCome = kind === TYPE_TAG;
    let [at, left] = [id, CHAIN_MAX];
    for (let of = kind; MODIFIERS.has(of); of = btf.kind(at) ?? VOID) {
      if (left-- === 0) return refuse("ELOOP", `BTF's type ${id} has more than ${CHAIN_MAX} modifiers`);
      if (of !== TYPE_TAG) tagsMayCome = false;
      else if (!tagsMayCome) return refuse("EINVAL", `BTF's type ${id} has a type tag after another modifier`);
      if (at <= looked) break;
      at = btf.target(at);
    }
    looked = id;
  }
  return null;
}
