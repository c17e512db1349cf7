/**
 * The types that the C of a type names or contains. Ids that are not in the BTF, which logs of early releases may have,
 * count as void.
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { Btf } from "./btf.ts";

const { ARRAY, CONST, DATASEC, ENUM, ENUM64, FUNC, FUNC_PROTO, PTR, RESTRICT, STRUCT } = BTF_KIND;
const { TYPEDEF, TYPE_TAG, UNION, VAR, VOLATILE } = BTF_KIND;

/** A prototype with more parameters is written without them. */
export const PARAMS_MAX = 1024;

/** Kinds that are written where they are used, as parts of a declaration: they have no names. */
export const DERIVED: ReadonlySet<number> = new Set([PTR, ARRAY, CONST, VOLATILE, RESTRICT, TYPE_TAG, FUNC_PROTO]);
export const COMPOSITES: ReadonlySet<number> = new Set([STRUCT, UNION]);
export const ENUMS: ReadonlySet<number> = new Set([ENUM, ENUM64]);
const SINGLE: ReadonlySet<number> = new Set([PTR, ARRAY, CONST, VOLATILE, RESTRICT, TYPE_TAG, TYPEDEF, FUNC, VAR]);

export function hasMembers(btf: Btf, id: number): boolean {
  const kind = btf.kind(id) ?? 0;
  return COMPOSITES.has(kind) || kind === DATASEC;
}

export function partCount(btf: Btf, id: number): number {
  const kind = btf.kind(id) ?? 0;
  if (SINGLE.has(kind)) return 1;
  if (hasMembers(btf, id)) return btf.memberCount(id);
  if (kind !== FUNC_PROTO) return 0;
  return 1 + (btf.memberCount(id) > PARAMS_MAX ? 0 : btf.memberCount(id));
}

/** A prototype's first part is the type that it returns. */
export function part(btf: Btf, id: number, at: number): number {
  const of = anyPart(btf, id, at);
  return of < btf.count ? of : 0;
}

function anyPart(btf: Btf, id: number, at: number): number {
  switch (btf.kind(id)) {
    case ARRAY:
      return btf.array(id).element;
    case STRUCT:
    case UNION:
      return btf.memberType(id, at);
    case DATASEC:
      return btf.variable(id, at).type;
    case FUNC_PROTO:
      return at === 0 ? btf.target(id) : btf.param(id, at - 1).type;
    default:
      return btf.target(id);
  }
}

/**
 * Whether a part must be complete, with its size known, if the whole is `complete`. What a pointer refers to, and what
 * a function takes and returns, need only be declared.
 */
export function partComplete(btf: Btf, id: number, complete: boolean): boolean {
  const kind = btf.kind(id) ?? 0;
  if (kind === PTR || kind === FUNC_PROTO) return false;
  return complete || kind === ARRAY || hasMembers(btf, id);
}
