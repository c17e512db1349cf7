/**
 * Checks the references between types: btf_check_all_types(), kernel/bpf/btf.c. Each type is resolved once, after the
 * types that it refers to, which are put on a stack. Refused with E2BIG: more than MAX_RESOLVE_DEPTH types on the stack;
 * with EEXIST: a type that is reached again while it is on the stack; with EINVAL: everything else.
 *
 * A stack begins with the first type, by id, that is not resolved yet. The type at its bottom decides which references
 * are followed (`OPENED`), so the same types in another order may be refused, as in the kernel:
 *
 *   typedef -> func             with the typedef at the bottom: the function is resolved, and the typedef is valid
 *   pointer -> typedef -> func  with the pointer at the bottom: references to functions are not followed. If the function
 *                               is not resolved yet, the typedef refers to a type without a size, and is refused
 */

import { BTF_KIND, MODIFIERS } from "../maps/btf_types.ts";
import { isRefusal, type Refusal, refuse } from "../maps/refusal.ts";
import { type Btf, SIZED } from "./btf.ts";
import { checkMember, isRegularInt, type Sizes } from "./members.ts";
import type { Names } from "./names.ts";

const DEPTH_MAX = 32;
const U32_MAX = 2 ** 32 - 1;
const VOID = 0;
const POINTER_BYTES = 8;
const NOT_VISITED = 0;
const OPEN = 1;
const RESOLVED = 2;

const { ARRAY, DATASEC, DECL_TAG, FUNC, FUNC_PROTO, FWD, INT, PTR, STRUCT, TYPEDEF, UNION, VAR } = BTF_KIND;
/** btf_type_needs_resolve() */
const RESOLVABLE: ReadonlySet<number> = new Set([
  ...MODIFIERS,
  ...[PTR, STRUCT, UNION, ARRAY, VAR, FUNC, DECL_TAG, DATASEC],
]);
/** btf_type_is_resolve_source_only(): no type may refer to these, except sections to variables. */
const SOURCES: ReadonlySet<number> = new Set([VAR, DECL_TAG, DATASEC]);
/** btf_type_nosize() */
const SIZELESS: ReadonlySet<number> = new Set([VOID, FWD, FUNC, FUNC_PROTO, DECL_TAG]);
/** Types without a size that a pointer, typedef or modifier may refer to. */
const NAMELESS_SIZE: ReadonlySet<number> = new Set([VOID, FWD, FUNC_PROTO]);
const TAGGED: ReadonlySet<number> = new Set([FUNC, STRUCT, UNION, VAR, TYPEDEF]);

/** enum resolve_mode: the kinds of types that are followed, which depends on the bottom of the stack. */
const OPENED = {
  /** RESOLVE_TBD */
  any: RESOLVABLE,
  /** RESOLVE_PTR: structs and arrays that a pointer leads to are not followed. */
  pointer: new Set([...MODIFIERS, PTR]) as ReadonlySet<number>,
  /** RESOLVE_STRUCT_OR_ARRAY: pointers are not followed, since they may lead back to the struct. */
  content: new Set([...MODIFIERS, ARRAY, STRUCT, UNION]) as ReadonlySet<number>,
} as const;

export function checkTypes(btf: Btf, names: Names): Refusal | null {
  return new Resolver(btf, names).check();
}

class Resolver implements Sizes {
  readonly #btf: Btf;
  readonly #names: Names;
  readonly #state: Uint8Array;
  /** For resolved types, by id: the type that it refers to, without typedefs and modifiers. */
  readonly #of: Uint32Array;
  readonly #bytes: Uint32Array;
  /** Types that are being resolved, each with the next member to look at. */
  readonly #stack: { readonly id: number; next: number }[] = [];
  #opened: ReadonlySet<number> = OPENED.any;
  /** Prototypes whose parameters' names a function has checked already. */
  readonly #named: Uint8Array;

  constructor(btf: Btf, names: Names) {
    this.#btf = btf;
    this.#names = names;
    this.#state = new Uint8Array(btf.count);
    this.#of = new Uint32Array(btf.count);
    this.#bytes = new Uint32Array(btf.count);
    this.#named = new Uint8Array(btf.count);
  }

  check(): Refusal | null {
    for (let id = 1; id < this.#btf.count; id++) {
      const refusal = this.#resolve(id) ?? (this.#kind(id) === FUNC_PROTO ? this.#checkPrototype(id) : null);
      if (refusal !== null) return refusal;
    }
    return null;
  }

  /** btf_type_id_size() */
  sized(id: number): number | undefined {
    const kind = this.#kind(id);
    if (SIZELESS.has(kind)) return undefined;
    if (!MODIFIERS.has(kind) && kind !== VAR) return id;
    const of = this.#of[id] as number;
    return this.#hasSize(of) ? of : undefined;
  }

  bytes(id: number): number {
    const kind = this.#kind(id);
    if (kind === ARRAY) return this.#bytes[id] as number;
    return kind === PTR ? POINTER_BYTES : this.#btf.target(id);
  }

  #hasSize(id: number): boolean {
    const kind = this.#kind(id);
    return SIZED.has(kind) || kind === ARRAY || kind === PTR;
  }

  /**
   * The kind of a type; VOID if there is none with this id. Both have no size and are refused alike; where void is
   * allowed, callers check the id first.
   */
  #kind(id: number): number {
    return this.#btf.kind(id) ?? VOID;
  }

  /** btf_resolve() */
  #resolve(id: number): Refusal | null {
    if (!RESOLVABLE.has(this.#kind(id)) || this.#state[id] === RESOLVED) return null;
    this.#opened = OPENED.any;
    this.#push(id);
    for (let top = this.#stack.at(-1); top !== undefined; top = this.#stack.at(-1)) {
      const refusal = this.#step(top);
      if (refusal !== null) return refusal;
    }
    return this.#isSound(id) ? null : wrong(id, "refers to a type that it cannot refer to");
  }

  /** env_stack_push() */
  #push(id: number): Refusal | null {
    if (this.#stack.length === DEPTH_MAX) return refuse("E2BIG", `BTF's types are nested deeper than ${DEPTH_MAX}`);
    if (this.#state[id] !== NOT_VISITED) return refuse("EEXIST", `BTF's type ${id} is a part of itself`);
    this.#state[id] = OPEN;
    this.#stack.push({ id, next: 0 });
    const kind = this.#kind(id);
    if (this.#opened === OPENED.any && kind === PTR) this.#opened = OPENED.pointer;
    else if (this.#opened === OPENED.any && OPENED.content.has(kind) && !MODIFIERS.has(kind))
      this.#opened = OPENED.content;
    return null;
  }

  /** Pushes a type if it must be resolved first. Returns null if it was pushed, undefined if it need not be resolved. */
  #open(id: number): Refusal | null | undefined {
    return this.#opened.has(this.#kind(id)) && this.#state[id] !== RESOLVED ? this.#push(id) : undefined;
  }

  /** env_stack_pop_resolved() */
  #close(of: number, bytes = 0): null {
    const { id } = this.#stack.pop() as { id: number };
    this.#state[id] = RESOLVED;
    this.#of[id] = of;
    this.#bytes[id] = bytes;
    return null;
  }

  /** Pushes the next type that this one is made of; if there is none, resolves this one. */
  #step(top: { readonly id: number; next: number }): Refusal | null {
    const { id } = top;
    switch (this.#kind(id)) {
      case PTR:
        return this.#reference(id, true);
      case VAR:
        return this.#variable(id);
      case ARRAY:
        return this.#array(id);
      case STRUCT:
      case UNION:
        return this.#members(top);
      case DATASEC:
        return this.#section(top);
      case FUNC:
        return this.#func(id);
      case DECL_TAG:
        return this.#tag(id);
      default:
        return this.#reference(id, false);
    }
  }

  /** The type that `id` refers to; it must exist, and must be of a kind that others may refer to. */
  #target(id: number): number | Refusal {
    const next = this.#btf.target(id);
    return this.#isTarget(next) ? next : wrong(id, `is of type ${next}`);
  }

  #isTarget(id: number): boolean {
    return id < this.#btf.count && !SOURCES.has(this.#kind(id));
  }

  /**
   * A modifier that was resolved as a part of a struct may end at a pointer that was not followed. Then the pointer is
   * pushed.
   */
  #openBehind(id: number): Refusal | null | undefined {
    if (!MODIFIERS.has(this.#kind(id))) return undefined;
    const of = this.#of[id] as number;
    return this.#kind(of) === PTR ? this.#open(of) : undefined;
  }

  /** btf_modifier_resolve(), btf_ptr_resolve() */
  #reference(id: number, isPointer: boolean): Refusal | null {
    const next = this.#target(id);
    if (isRefusal(next)) return next;
    const opened = this.#open(next);
    if (opened !== undefined) return opened;
    const behind = isPointer ? this.#openBehind(next) : undefined;
    if (behind !== undefined) return behind;
    const sized = this.sized(next);
    if (sized !== undefined) return this.#close(sized);
    const of = this.#state[next] === RESOLVED ? (this.#of[next] as number) : next;
    return NAMELESS_SIZE.has(this.#kind(of)) ? this.#close(of) : wrong(id, `is of type ${next}, which has no size`);
  }

  /** btf_var_resolve() */
  #variable(id: number): Refusal | null {
    const next = this.#target(id);
    if (isRefusal(next)) return next;
    const opened = this.#open(next);
    if (opened !== undefined) return opened;
    const behind = this.#openBehind(next);
    if (behind !== undefined) return behind;
    const sized = this.sized(next);
    return sized === undefined ? wrong(id, `is a variable of type ${next}, which has no size`) : this.#close(sized);
  }

  /** btf_array_resolve() */
  #array(id: number): Refusal | null {
    const { element, index, count } = this.#btf.array(id);
    if (!this.#isPart(index)) return wrong(id, `is an array with an index of type ${index}`);
    const opened = this.#open(index);
    if (opened !== undefined) return opened;
    const by = this.sized(index);
    if (by === undefined || this.#kind(by) !== INT || !isRegularInt(this.#btf, by))
      return wrong(id, `is an array with an index of type ${index}`);
    if (!this.#isPart(element)) return wrong(id, `is an array of type ${element}`);
    const openedElement = this.#open(element);
    if (openedElement !== undefined) return openedElement;
    const of = this.sized(element);
    if (of === undefined || (this.#kind(of) === INT && !isRegularInt(this.#btf, of)))
      return wrong(id, `is an array of type ${element}`);
    const bytes = this.bytes(of) * count;
    return bytes > U32_MAX ? wrong(id, `is an array of ${bytes} bytes`) : this.#close(of, bytes);
  }

  /** Whether arrays, structs and unions may be made of a type. */
  #isPart(id: number): boolean {
    const kind = this.#kind(id);
    return !SIZELESS.has(kind) && !SOURCES.has(kind);
  }

  /** btf_struct_resolve() */
  #members(top: { readonly id: number; next: number }): Refusal | null {
    const { id } = top;
    for (let at = top.next; at < this.#btf.memberCount(id); at++) {
      const type = this.#btf.memberType(id, at);
      if (!this.#isPart(type)) return wrong(id, `has a member of type ${type}`);
      top.next = at;
      const opened = this.#open(type);
      if (opened !== undefined) return opened;
      const refusal = checkMember(this.#btf, this, id, at);
      if (refusal !== null) return refusal;
    }
    return this.#close(VOID);
  }

  /** btf_datasec_resolve() */
  #section(top: { readonly id: number; next: number }): Refusal | null {
    const { id } = top;
    this.#opened = OPENED.any;
    for (let at = top.next; at < this.#btf.memberCount(id); at++) {
      const { type, size } = this.#btf.variable(id, at);
      if (this.#kind(type) !== VAR) return wrong(id, `is a section of type ${type}, which is not a variable`);
      // As in the kernel, the size of a variable is not checked if it had to be pushed here.
      top.next = at + 1;
      const opened = this.#open(type);
      if (opened !== undefined) return opened;
      const of = this.sized(this.#btf.target(type));
      if (of === undefined || this.bytes(of) > size) return wrong(id, `has ${size} bytes for variable ${type}`);
    }
    return this.#close(VOID);
  }

  /** btf_func_check(): each parameter must have a name, except the one without a type, which is "...". */
  #func(id: number): Refusal | null {
    const prototype = this.#btf.target(id);
    if (this.#kind(prototype) !== FUNC_PROTO) return wrong(id, `is a function of type ${prototype}`);
    for (let at = 0; this.#named[prototype] === 0 && at < this.#btf.memberCount(prototype); at++) {
      const { name, type } = this.#btf.param(prototype, at);
      if (name === 0 && type !== VOID) return wrong(id, `is a function whose parameter ${at} has no name`);
    }
    this.#named[prototype] = 1;
    return this.#close(prototype);
  }

  /** btf_decl_tag_resolve() */
  #tag(id: number): Refusal | null {
    const next = this.#btf.target(id);
    if (!TAGGED.has(this.#kind(next))) return wrong(id, `is a tag of type ${next}`);
    const opened = this.#open(next);
    if (opened !== undefined) return opened;
    const component = this.#btf.component(id);
    return component === -1 || component < this.#components(next)
      ? this.#close(next)
      : wrong(id, `is a tag of type ${next}, which has no component ${component}`);
  }

  /** The number of members or parameters that a tag may be for. */
  #components(id: number): number {
    const kind = this.#kind(id);
    if (kind === VAR || kind === TYPEDEF) return 0;
    return this.#btf.memberCount(kind === FUNC ? this.#btf.target(id) : id);
  }

  /** The conditions of btf_resolve_valid() that can fail here. */
  #isSound(id: number): boolean {
    const kind = this.#kind(id);
    if (!MODIFIERS.has(kind) && kind !== PTR && kind !== VAR) return true;
    const of = this.#kind(this.#of[id] as number);
    return !MODIFIERS.has(of) && of !== VAR && of !== DATASEC;
  }

  /** btf_func_proto_check() */
  #checkPrototype(id: number): Refusal | null {
    const returned = this.#btf.target(id);
    const refusal = returned === VOID ? null : this.#checkValue(id, returned);
    if (refusal !== null) return refusal;
    let count = this.#btf.memberCount(id);
    const last = count === 0 ? null : this.#btf.param(id, count - 1);
    if (last?.type === VOID) {
      if (last.name !== 0) return wrong(id, 'is a prototype with a name for its "..."');
      count--;
    }
    for (let at = 0; at < count; at++) {
      const { name, type } = this.#btf.param(id, at);
      if (!this.#isTarget(type)) return wrong(id, `is a prototype with a parameter of type ${type}`);
      if (name !== 0 && !(this.#names.has(name) && this.#names.isIdentifier(name)))
        return wrong(id, `is a prototype with a name for parameter ${at} that cannot be one`);
      const refusal = this.#checkValue(id, type);
      if (refusal !== null) return refusal;
    }
    return null;
  }

  /** The type of a parameter or of a return value must have a size. */
  #checkValue(id: number, type: number): Refusal | null {
    if (!this.#isTarget(type)) return wrong(id, `is a prototype with a type ${type}`);
    const refusal = this.#resolve(type);
    if (refusal !== null) return refusal;
    return this.sized(type) === undefined ? wrong(id, `is a prototype with type ${type}, which has no size`) : null;
  }
}

function wrong(id: number, what: string): Refusal {
  return refuse("EINVAL", `BTF's type ${id} ${what}`);
}
