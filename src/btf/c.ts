/**
 * BTF as C whose types have the sizes and members the offsets that BTF says, for compilers with a long of 64 bits. Each
 * definition follows the definitions that it needs; a struct that is only pointed to is declared before. The text comes
 * in pieces: work that takes long has empty ones in between, so that others may have a turn.
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { Btf } from "./btf.ts";
import { Inline, PAUSE } from "./c_inline.ts";
import { NAME_BYTES_MAX } from "./c_names.ts";
import { COMPOSITES, DERIVED, ENUMS, hasMembers, part, partComplete, partCount } from "./c_parts.ts";
import { declTagsOf, Texts } from "./c_text.ts";

const { DATASEC, DECL_TAG, FLOAT, FWD, INT, TYPEDEF, TYPE_TAG } = BTF_KIND;
const STEPS = 8192;

/** Compilers without these attributes ignore them. */
const TAGS = `#ifdef __has_attribute
#if __has_attribute(btf_type_tag)
#define __btf_type_tag(x) __attribute__((btf_type_tag(x)))
#endif
#if __has_attribute(btf_decl_tag)
#define __btf_decl_tag(x) __attribute__((btf_decl_tag(x)))
#endif
#endif
#ifndef __btf_type_tag
#define __btf_type_tag(x)
#endif
#ifndef __btf_decl_tag
#define __btf_decl_tag(x)
#endif

`;

/** As bpftool has it: BPF programs find members of the kernel's structs in the running kernel, wherever they are there. */
const KERNEL_HEAD = `#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

`;
const KERNEL_TAIL = `#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
`;

/**
 * The C of all types from `first` on, and of all that they need. `isKernel`: the text is a header for BPF programs.
 */
export function* cOf(btf: Btf, { first = 1, isKernel = false } = {}): Generator<string> {
  const inline = yield* Inline.of(btf, ids(btf, first));
  yield isKernel ? KERNEL_HEAD : "";
  const order = yield* beginning(btf, inline);
  let steps = 0;
  for (const id of ids(btf, first)) {
    yield* order.define(id);
    if (++steps % STEPS === 0) yield PAUSE;
  }
  yield isKernel ? KERNEL_TAIL : "";
}

/** The C of some types, each by a typedef of this name, and of all that they need. */
export function* cOfNamed(btf: Btf, named: Readonly<Record<string, number>>): Generator<string> {
  const types = Object.entries(named).filter(([, id]) => id > 0 && id < btf.count);
  const inline = yield* Inline.of(
    btf,
    types.map(([, id]) => id),
  );
  const order = yield* beginning(btf, inline);
  for (const [name, id] of types) yield* order.name(name, id);
}

function* beginning(btf: Btf, inline: Inline): Generator<string, Order> {
  if (yield* hasTags(btf)) yield TAGS;
  const order = new Order(btf, inline);
  yield* order.shareNames();
  return order;
}

function* ids(btf: Btf, first: number): Iterable<number> {
  for (let id = first; id < btf.count; id++) yield id;
}

function* hasTags(btf: Btf): Generator<string, boolean> {
  for (let id = 1; id < btf.count; id++) {
    const kind = btf.kind(id);
    if (kind === TYPE_TAG && !btf.kindFlag(id)) return true;
    if (kind === DECL_TAG && (hasMembers(btf, btf.target(id)) || btf.kind(btf.target(id)) === TYPEDEF)) return true;
    if (id % (STEPS * 8) === 0) yield PAUSE;
  }
  return false;
}

/** A type that is being visited. `owner`: the struct whose definition has it. */
interface Visit {
  readonly id: number;
  readonly complete: boolean;
  readonly owner: number;
  next: number;
}

const DECLARED = 1;
const DEFINED = 2;

class Order {
  readonly #btf: Btf;
  readonly #inline: Inline;
  readonly #texts: Texts;
  /** By id: DECLARED once a struct's declaration or a typedef was written, DEFINED once all that it needs is defined. */
  readonly #done: Uint8Array;
  readonly #isOpen: Uint8Array;
  /** Enumerations without constants, by the one of the same name that has some. */
  readonly #aliases = new Map<number, number>();

  constructor(btf: Btf, inline: Inline) {
    this.#btf = btf;
    this.#inline = inline;
    this.#texts = new Texts(btf, inline, declTagsOf(btf));
    this.#done = new Uint8Array(btf.count);
    this.#isOpen = new Uint8Array(btf.count);
  }

  /**
   * Forward declarations have the name of the struct or union that they declare, if the BTF has it, and so have
   * enumerations without constants.
   */
  *shareNames(): Generator<string> {
    const btf = this.#btf;
    const declared = new Map<string, number[]>();
    for (let id = 1; id < btf.count; id++) {
      if (id % STEPS === 0) yield PAUSE;
      if (!this.#isDeclaration(id)) continue;
      const key = this.#tagKey(id);
      const known = declared.get(key);
      if (known === undefined) declared.set(key, [id]);
      else known.push(id);
    }
    for (let id = 1; id < btf.count && declared.size > 0; id++) {
      if (id % STEPS === 0) yield PAUSE;
      const kind = btf.kind(id) ?? 0;
      if (!COMPOSITES.has(kind) && !ENUMS.has(kind)) continue;
      if (!this.#inline.isReached(id) || btf.nameOffset(id) === 0 || this.#isDeclaration(id)) continue;
      const key = this.#tagKey(id);
      for (const other of declared.get(key) ?? []) this.#share(other, id);
      declared.delete(key);
    }
    for (const [first, ...rest] of declared.values()) for (const id of rest) this.#share(id, first as number);
  }

  #isDeclaration(id: number): boolean {
    const btf = this.#btf;
    const kind = btf.kind(id) ?? 0;
    if (btf.nameOffset(id) === 0 || !this.#inline.isReached(id)) return false;
    return kind === FWD || (ENUMS.has(kind) && btf.memberCount(id) === 0);
  }

  #tagKey(id: number): string {
    const btf = this.#btf;
    const kind = btf.kind(id) ?? 0;
    const of = kind === FWD ? (btf.kindFlag(id) ? BTF_KIND.UNION : BTF_KIND.STRUCT) : kind;
    return `${of} ${ENUMS.has(kind) ? btf.target(id) : ""} ${btf.text(btf.nameOffset(id), NAME_BYTES_MAX)}`;
  }

  #share(id: number, other: number): void {
    this.#texts.share(id, other);
    if (ENUMS.has(this.#btf.kind(id) ?? 0)) this.#aliases.set(id, other);
  }

  /** Writes the definition of a type after those that it needs, and nothing that was written before. */
  *define(root: number): Generator<string> {
    const btf = this.#btf;
    const kind = btf.kind(root) ?? 0;
    if (this.#inline.has(root)) {
      // Constants that no type uses are still constants.
      if (ENUMS.has(kind) && this.#inline.uses(root) === 0) yield* this.#texts.enumeration(root);
      return;
    }
    if (this.#isTop(root)) yield* this.#need(root);
  }

  /** Writes a typedef of a type, after all that the type needs. */
  *name(name: string, id: number): Generator<string> {
    yield* this.#need(id);
    yield* this.#texts.naming(name, id);
  }

  /** Writes the definitions that a type needs, each after those that it needs itself. */
  *#need(root: number): Generator<string> {
    const btf = this.#btf;
    let steps = 0;
    const open: Visit[] = [];
    yield* this.#enter(open, root, true, 0);
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      if (++steps % STEPS === 0) yield PAUSE;
      const { id, complete } = top;
      const count = partCount(btf, id);
      if (this.#isTypedef(id)) yield* this.#typedefStep(open, top);
      else if (top.next < count) {
        const owner = hasMembers(btf, id) && !this.#inline.has(id) ? id : top.owner;
        yield* this.#enter(open, part(btf, id, top.next++), partComplete(btf, id, complete), owner);
      } else {
        open.pop();
        yield* this.#leave(id);
      }
    }
  }

  /** Whether a type has a definition of its own that is not only written with those that use it. */
  #isTop(id: number): boolean {
    const kind = this.#btf.kind(id) ?? 0;
    return hasMembers(this.#btf, id) || ENUMS.has(kind) || kind === TYPEDEF || kind === FWD;
  }

  /** A typedef, or a type without a name that needs one. */
  #isTypedef(id: number): boolean {
    const kind = this.#btf.kind(id) ?? 0;
    return kind === TYPEDEF || (DERIVED.has(kind) && this.#inline.isCut(id));
  }

  /** Visits a type, unless all that is needed of it was written. */
  *#enter(open: Visit[], id: number, complete: boolean, owner: number): Generator<string> {
    const btf = this.#btf;
    const kind = btf.kind(id) ?? 0;
    const done = this.#done[id] as number;
    if (kind === INT || kind === FLOAT) {
      if (done === DEFINED) return;
      this.#done[id] = DEFINED;
      yield this.#texts.alias(id) ?? "";
    } else if (this.#inline.has(id) && !ENUMS.has(kind)) {
      if (partCount(btf, id) > 0 && !this.#inline.isOpaque(id)) open.push({ id, complete, owner, next: 0 });
    } else if (kind === FWD) {
      if (done === 0) yield* this.#texts.forward(id);
      this.#done[id] = DEFINED;
    } else if (ENUMS.has(kind)) {
      const aliased = this.#aliases.get(id) ?? id;
      if (this.#inline.has(id) || this.#done[aliased] === DEFINED) return;
      this.#done[aliased] = DEFINED;
      yield* this.#texts.enumeration(aliased);
    } else if (hasMembers(btf, id)) yield* this.#enterComposite(open, id, complete, owner);
    else if (this.#isOpen[id] === 0 && done < (complete ? DEFINED : DECLARED) && partCount(btf, id) > 0) {
      const isTypedef = this.#isTypedef(id);
      if (isTypedef) this.#isOpen[id] = 1;
      open.push({ id, complete, owner: isTypedef ? 0 : owner, next: 0 });
    }
  }

  *#enterComposite(open: Visit[], id: number, complete: boolean, owner: number): Generator<string> {
    const done = this.#done[id] as number;
    if (complete && done !== DEFINED && this.#isOpen[id] === 0) {
      this.#isOpen[id] = 1;
      open.push({ id, complete, owner: id, next: 0 });
    } else if (done === 0 && id !== owner && this.#btf.kind(id) !== DATASEC) {
      this.#done[id] = DECLARED;
      yield* this.#texts.forward(id);
    }
  }

  /** A typedef is written after the declarations that it needs. Where its size is needed, the definitions follow. */
  *#typedefStep(open: Visit[], top: Visit): Generator<string> {
    const btf = this.#btf;
    const { id, complete } = top;
    const isDerived = btf.kind(id) !== TYPEDEF;
    const count = partCount(btf, id);
    if (top.next < count) {
      yield* this.#enter(open, part(btf, id, top.next++), isDerived && partComplete(btf, id, false), 0);
      return;
    }
    if (top.next === count) {
      top.next++;
      if ((this.#done[id] as number) === 0) yield* this.#texts.typedef(id);
      this.#done[id] = Math.max(this.#done[id] as number, DECLARED);
      if (complete) {
        yield* this.#enter(open, part(btf, id, 0), partComplete(btf, id, true), 0);
        return;
      }
    }
    open.pop();
    this.#isOpen[id] = 0;
    if (complete) this.#done[id] = DEFINED;
  }

  *#leave(id: number): Generator<string> {
    if (this.#inline.has(id) || !hasMembers(this.#btf, id)) return;
    yield* this.#texts.composite(id);
    this.#done[id] = DEFINED;
    this.#isOpen[id] = 0;
  }
}
