/** Finds the special fields of a struct or data section, at any depth: btf_find_field(), kernel/bpf/btf.c. */

import { BTF_KIND } from "../maps/btf_types.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import type { Btf } from "./btf.ts";
import { type Contents, FIELDS, type Field, type FieldKind, kernelPointer, POINTERS } from "./fields.ts";

/** MAX_RESOLVE_DEPTH: the most levels of nested structs, and of nested arrays. */
const DEPTH_MAX = 32;
/** BTF_FIELDS_MAX */
const FIELDS_MAX = 11;
const { ARRAY, DATASEC, STRUCT } = BTF_KIND;

/**
 * Reads the declaration tag that says what a list or tree contains. `member` -1: the tag of the variable `id` itself.
 */
export type Declared = (id: number, member: number) => Contents | Refusal;

const NO_TAGS: Declared = () => refuse("EINVAL", "the contents of lists and trees are not looked up");

type PointerFound = Omit<Field, "offset"> | Refusal | null;

interface Elements {
  readonly id: number;
  readonly count: number;
}

/**
 * The result of a walk over a struct. `need`: the number of fields that the walk has counted against BTF_FIELDS_MAX; if
 * it ended with a refusal, the number up to there.
 */
interface Walked {
  readonly need: number;
  readonly fields: readonly Field[];
  readonly refusal: Refusal | null;
}

const UNKNOWN = -1;
const NOTHING: Walked = { need: 0, fields: [], refusal: null };
const TOO_MANY = refuse("E2BIG", `the value has more than ${FIELDS_MAX} special fields`);
const TOO_DEEP = refuse("E2BIG", `structs are nested deeper than ${DEPTH_MAX}`);

export class Finder {
  readonly #btf: Btf;
  readonly #kinds: ReadonlySet<FieldKind>;
  readonly #declared: Declared;
  readonly #pointers: boolean;
  /** By id: a struct may be part of many others, and is walked once. */
  readonly #walked: (Walked | undefined)[] = [];
  readonly #arrays = new Map<number, Elements | Refusal>();
  /** By type: the kind of special field that the type has the name of; null: none. */
  readonly #named = new Map<number, FieldKind | null>();
  readonly #pointersTo = new Map<number, PointerFound>();
  /** By id: the levels of structs nested in each struct, at most DEPTH_MAX; UNKNOWN: not computed yet. */
  readonly #heights: Int8Array;

  constructor(btf: Btf, kinds: ReadonlySet<FieldKind>, declared: Declared = NO_TAGS) {
    this.#btf = btf;
    this.#kinds = kinds;
    this.#declared = declared;
    this.#pointers = kinds.has("kptr");
    this.#heights = new Int8Array(btf.count).fill(UNKNOWN);
  }

  /**
   * The fields in the order of members. E2BIG if there are more than BTF_FIELDS_MAX, or if structs are nested too
   * deeply.
   */
  find(id: number): readonly Field[] | Refusal {
    const { fields, refusal } = this.#btf.kind(id) === DATASEC ? this.#inSection(id) : this.#inStruct(id, 0, 0);
    return refusal ?? fields;
  }

  /** btf_find_datasec_var(): a section gives each of its variables a size, besides the size of the variable's type. */
  #inSection(id: number): Walked {
    const walk = new Walk(0);
    const seen: FieldKind[] = [];
    for (let at = 0; at < this.#btf.memberCount(id) && walk.refusal === null; at++) {
      const { type, offset, size } = this.#btf.variable(id, at);
      this.#inMember(walk, { owner: type, member: -1, type: this.#btf.target(type), offset, size, seen, level: 0 });
    }
    return walk;
  }

  /**
   * btf_find_struct_field(): offsets count from this struct's beginning; each kind of field may occur in it once, unless
   * it is `beside` others (fields.ts). `used`: the number of fields found before. The result is cached, because it does not depend on `level` and `used`,
   * unless the struct is nested too deeply at this level. Then it is not cached: such a walk ends with a refusal, and
   * all walks around it end, too.
   */
  #inStruct(id: number, level: number, used: number): Walked {
    if (this.#btf.kind(id) !== STRUCT) return NOTHING;
    const deep = level + this.#height(id) >= DEPTH_MAX;
    const known = deep ? undefined : this.#walked[id];
    if (known !== undefined) return known;
    const before = deep ? used : 0;
    const walk = new Walk(before);
    const seen: FieldKind[] = [];
    for (let at = 0; at < this.#btf.memberCount(id) && walk.refusal === null; at++) {
      const offsetBits = this.#btf.memberOffsetBits(id, at);
      if (offsetBits % 8 !== 0) walk.refusal = refuse("EINVAL", `a member begins at bit ${offsetBits}`);
      else {
        const [type, offset] = [this.#btf.memberType(id, at), offsetBits / 8];
        this.#inMember(walk, { owner: id, member: at, type, offset, size: null, seen, level });
      }
    }
    walk.need -= before;
    if (!deep) this.#walked[id] = walk;
    return walk;
  }

  /**
   * btf_find_field_one(): a member with the name of a special field but with another size or alignment is ignored, and
   * so is a variable whose section gives it another size than its type.
   */
  #inMember(walk: Walk, { owner, member, type, offset, size, seen, level }: Around): void {
    const elements = this.#elements(type);
    if (isRefusal(elements)) walk.refusal = elements;
    if (isRefusal(elements) || elements.count === 0) return;
    const { id, count } = elements;
    const kind = this.#kindOf(id);
    if (kind !== null && !FIELDS[kind].beside) {
      if (seen.includes(kind)) walk.refusal = refuse("E2BIG", `the value has more than one ${kind}`);
      if (walk.refusal !== null) return;
      seen.push(kind);
    }
    const isStruct = this.#btf.kind(id) === STRUCT;
    if (kind === null && isStruct) {
      if (size === null || size === this.#btf.target(id) * count) this.#inNested(walk, { id, count, offset, level });
      return;
    }
    if (kind === null && !this.#pointers) return;
    const { size: bytes, align } = FIELDS[kind ?? "kptr"];
    if ((size !== null && size !== bytes * count) || offset % align !== 0) return;
    const field = kind === null ? this.#pointer(id) : this.#ofKind(kind, id, { owner, member });
    if (isRefusal(field)) walk.refusal = field;
    else if (field !== null) walk.add([{ ...field, offset }], count, bytes);
  }

  /** btf_find_nested_struct() */
  #inNested(
    walk: Walk,
    { id, count, offset, level }: { id: number; count: number; offset: number; level: number },
  ): void {
    if (level + 1 >= DEPTH_MAX) walk.refusal = TOO_DEEP;
    else {
      const its = this.#inStruct(id, level + 1, walk.need);
      const fields = its.fields.map((field) => ({ ...field, offset: field.offset + offset }));
      walk.take(its, fields, count, this.#btf.target(id));
    }
  }

  #pointer(id: number): PointerFound {
    const known = this.#pointersTo.get(id);
    if (known !== undefined) return known;
    const found = kernelPointer(this.#btf, id);
    const field = found === null || isRefusal(found) ? found : { ...found, contains: null };
    this.#pointersTo.set(id, field);
    return field;
  }

  /** The field of a member whose type has a special name; null: the type is not a struct of the right size. */
  #ofKind(
    kind: FieldKind,
    id: number,
    { owner, member }: { owner: number; member: number },
  ): Omit<Field, "offset"> | Refusal | null {
    if (this.#btf.kind(id) !== STRUCT || this.#btf.target(id) !== FIELDS[kind].size) return null;
    const isRoot = kind === "bpf_list_head" || kind === "bpf_rb_root";
    const contains = isRoot ? this.#declared(owner, member) : null;
    return isRefusal(contains) ? contains : { kind, to: 0, contains };
  }

  #kindOf(id: number): FieldKind | null {
    const known = this.#named.get(id);
    if (known !== undefined) return known;
    const name = this.#btf.name(id);
    const kind = this.#kinds.has(name as FieldKind) && !POINTERS.has(name) ? (name as FieldKind) : null;
    this.#named.set(id, kind);
    return kind;
  }

  /**
   * The element type of an array, or of an array of arrays, and the number of elements, modulo 2^32. A type that is not
   * an array counts as one element of itself.
   */
  #elements(type: number): Elements | Refusal {
    if (this.#btf.kind(type) !== ARRAY) return { id: type, count: 1 };
    const known = this.#arrays.get(type) ?? this.#elementsOf(type);
    this.#arrays.set(type, known);
    return known;
  }

  #elementsOf(array: number): Elements | Refusal {
    let [id, count] = [array, 1];
    for (let depth = 0; depth < DEPTH_MAX; depth++) {
      if (this.#btf.kind(id) !== ARRAY) return { id, count };
      const { element, count: times } = this.#btf.array(id);
      [id, count] = [element, Math.imul(count, times) >>> 0];
    }
    return refuse("E2BIG", `arrays are nested deeper than ${DEPTH_MAX}`);
  }

  /**
   * The levels of structs nested in a struct. The nested ones come first, on an explicit stack: a million may be
   * nested.
   */
  #height(id: number): number {
    const known = this.#heights[id] as number;
    if (known !== UNKNOWN) return known;
    const stack = [{ id, at: 0, height: 0 }];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      if (top.at === this.#btf.memberCount(top.id)) {
        this.#heights[top.id] = Math.min(top.height, DEPTH_MAX);
        stack.pop();
        continue;
      }
      const inner = this.#nestedIn(this.#btf.memberType(top.id, top.at));
      if (inner !== null && this.#heights[inner] === UNKNOWN) {
        this.#heights[inner] = 0;
        stack.push({ id: inner, at: 0, height: 0 });
        continue;
      }
      if (inner !== null) top.height = Math.max(top.height, (this.#heights[inner] as number) + 1);
      top.at++;
    }
    return this.#heights[id] as number;
  }

  /** The nested struct that is searched for fields if a member has this type; null: no struct is searched. */
  #nestedIn(type: number): number | null {
    const elements = this.#elements(type);
    if (isRefusal(elements) || elements.count === 0) return null;
    return this.#btf.kind(elements.id) === STRUCT && this.#kindOf(elements.id) === null ? elements.id : null;
  }
}

/** The fields found so far. A field that exceeds BTF_FIELDS_MAX ends the walk with E2BIG. */
class Walk implements Walked {
  need: number;
  readonly fields: Field[] = [];
  refusal: Refusal | null = null;

  constructor(used: number) {
    this.need = used;
  }

  /** Adds the fields of an array's element once for each of `count` elements of `bytes` each. */
  add(fields: readonly Field[], count: number, bytes: number): void {
    if (!this.#room(fields.length)) return;
    if (count > 1 && fields.some(({ kind }) => !FIELDS[kind].repeats)) {
      this.refusal = refuse("EINVAL", `a ${fields[0]?.kind} in an array of ${count}`);
      return;
    }
    if (!this.#room(fields.length * (count - 1))) return;
    for (let at = 0; at < count; at++)
      this.fields.push(...fields.map((field) => ({ ...field, offset: field.offset + at * bytes })));
  }

  /** Adds the result of a nested struct's walk. `fields`: its fields with offsets in the outer struct. */
  take({ need, refusal }: Walked, fields: readonly Field[], count: number, bytes: number): void {
    if (this.need + need > FIELDS_MAX) this.refusal = TOO_MANY;
    else if (refusal !== null) this.refusal = refusal;
    else if (fields.length > 0) this.add(fields, count, bytes);
  }

  #room(more: number): boolean {
    this.need += more;
    if (this.need > FIELDS_MAX) this.refusal = TOO_MANY;
    return this.refusal === null;
  }
}

/**
 * `seen`: kinds found in this struct or section before. `size`: the size that a section gives its variable; null in a
 * struct.
 */
interface Around {
  readonly owner: number;
  readonly member: number;
  readonly type: number;
  readonly offset: number;
  readonly size: number | null;
  readonly seen: FieldKind[];
  readonly level: number;
}
