import { BTF_KIND } from "../maps/btf_types.ts";
import { type Refusal, refuse } from "../maps/refusal.ts";
import { type Btf, MODIFIERS } from "./btf.ts";

/**
 * What the types of BTF say of each other: btf_check_all_types(), kernel/bpf/btf.c. None may have itself for a part, and
 * parts must be where they can be.
 */

/** MAX_RESOLVE_DEPTH: types that have not been looked at yet, one in the other. */
const DEPTH_MAX = 32;
const SIZE_MAX = 2 ** 32 - 1;
const VOID = 0;

type Parts = (btf: Btf, id: number) => readonly number[];

export function checkTypes(btf: Btf): Refusal | null {
  const [contents, pointers] = [new Walk(btf, contained), new Walk(btf, pointedAt)];
  for (let id = 1; id < btf.count; id++) {
    const refusal = contents.visit(id, 0) ?? pointers.visit(id, 0) ?? checkSize(btf, id);
    if (refusal !== null) return refusal;
  }
  return null;
}

/** What a type is made of: RESOLVE_STRUCT_OR_ARRAY. Pointers end it. */
function contained(btf: Btf, id: number): readonly number[] {
  const kind = btf.kind(id) ?? VOID;
  if (MODIFIERS.has(kind)) return [btf.target(id)];
  switch (kind) {
    case BTF_KIND.ARRAY: {
      const { element, index } = btf.array(id);
      return [element, index];
    }
    case BTF_KIND.STRUCT:
    case BTF_KIND.UNION:
      return Array.from({ length: btf.memberCount(id) }, (_, at) => btf.memberType(id, at));
    default:
      return [];
  }
}

/** What a pointer leads to: RESOLVE_PTR. All but modifiers and other pointers end it. */
function pointedAt(btf: Btf, id: number): readonly number[] {
  const kind = btf.kind(id) ?? VOID;
  return kind === BTF_KIND.PTR || MODIFIERS.has(kind) ? [btf.target(id)] : [];
}

/** A walk over types that comes past each of them once. */
class Walk {
  readonly #btf: Btf;
  readonly #parts: Parts;
  readonly #seen: Uint8Array;

  constructor(btf: Btf, parts: Parts) {
    this.#btf = btf;
    this.#parts = parts;
    this.#seen = new Uint8Array(btf.count);
  }

  visit(id: number, depth: number): Refusal | null {
    if (this.#btf.kind(id) === undefined) return refuse("EINVAL", `BTF has no type ${id}`);
    if (this.#seen[id] === DONE) return null;
    if (this.#seen[id] === OPEN) return refuse("EEXIST", `BTF's type ${id} has itself for a part`);
    const parts = this.#parts(this.#btf, id);
    if (parts.length > 0 && depth >= DEPTH_MAX)
      return refuse("E2BIG", `BTF's types are nested deeper than ${DEPTH_MAX}`);
    this.#seen[id] = OPEN;
    for (const part of parts) {
      const refusal = this.visit(part, depth + 1);
      if (refusal !== null) return refusal;
    }
    this.#seen[id] = DONE;
    return null;
  }
}

const OPEN = 1;
const DONE = 2;

/** That what it is made of has sizes, and fits. */
function checkSize(btf: Btf, id: number): Refusal | null {
  const kind = btf.kind(id);
  if (kind === BTF_KIND.ARRAY) {
    const size = btf.size(id);
    const index = btf.plain(btf.array(id).index);
    if (size !== undefined && size <= SIZE_MAX && btf.kind(index) === BTF_KIND.INT) return null;
    return refuse("EINVAL", `BTF's type ${id} is an array that cannot be`);
  }
  return kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION ? checkMembers(btf, id) : null;
}

function checkMembers(btf: Btf, id: number): Refusal | null {
  const endBits = btf.target(id) * 8;
  let last = 0;
  for (let at = 0; at < btf.memberCount(id); at++) {
    const type = btf.memberType(id, at);
    const size = btf.size(type);
    if (size === undefined) return refuse("EINVAL", `BTF's type ${id} has a member without a size`);
    const offsetBits = btf.memberOffsetBits(id, at);
    const bits = btf.memberBits(id, at) || btf.bits(type) || size * 8;
    if (offsetBits < last || offsetBits + bits > endBits)
      return refuse("EINVAL", `BTF's type ${id} has a member at bit ${offsetBits}, where it cannot be`);
    last = offsetBits;
  }
  return null;
}
