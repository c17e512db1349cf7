/**
 * Decides which types without a name are written where they are used, and which get a name of their own. Most are
 * written where they are used: `struct { int a; } x`, `int (*f)(void)`. A name is given to
 *
 *   - an anonymous struct or union that contains itself through pointers and typedefs, which C cannot write otherwise;
 *   - an anonymous enumeration with several uses: its constants can be defined only once;
 *   - a type that is nested too deep, or whose uses would repeat too much text: BTF of a few kilobytes could otherwise
 *     become gigabytes of C.
 *
 * A pointer that refers to itself without a struct between becomes `void *`.
 */

import { BTF_KIND } from "../maps/btf_types.ts";
import type { Btf } from "./btf.ts";
import { COMPOSITES, DERIVED, ENUMS, part, partComplete, partCount } from "./c_parts.ts";

const { DECL_TAG, FUNC_PROTO, PTR } = BTF_KIND;
const DEPTH_MAX = 32;
/** A type of at most this many types may be written wherever it is used: that is not much more than its name. */
const SMALL = 32;
/** The most types that the uses of larger ones write again, over all. */
const REPEATS_MAX = 1 << 16;
/** The most types in one declarator, such as that of a function that takes functions. */
const DECLARATOR_MAX = 128;
/** About a millisecond's work. */
const STEPS = 8192;

/** In place of a piece of text: there is none yet, and others may have a turn. */
export const PAUSE = "";
export type Pauses<Result> = Generator<string, Result>;

const WEAK = 1;
const COMPLETE = 2;

export class Inline {
  readonly #btf: Btf;
  /** By id: WEAK or COMPLETE if the C that is asked for has the type. */
  readonly #reach: Uint8Array;
  readonly #isNamed: Uint8Array;
  readonly #isCut: Uint8Array;
  readonly #isOpaque: Uint8Array;
  readonly #uses: Uint32Array;

  private constructor(btf: Btf) {
    this.#btf = btf;
    this.#reach = new Uint8Array(btf.count);
    this.#isNamed = new Uint8Array(btf.count);
    this.#isCut = new Uint8Array(btf.count);
    this.#isOpaque = new Uint8Array(btf.count);
    this.#uses = new Uint32Array(btf.count);
  }

  static *of(btf: Btf, roots: Iterable<number>): Pauses<Inline> {
    const inline = new Inline(btf);
    for (let id = 1; id < btf.count; id++) if (btf.nameOffset(id) !== 0) inline.#isNamed[id] = 1;
    yield* inline.#reachFrom(roots);
    const order = yield* inline.#withoutCycles();
    yield* inline.#cutRepeats(order);
    return inline;
  }

  /** Whether the type is a part of the declarations that use it. If not, its name is. */
  has(id: number): boolean {
    if (this.#isCut[id] === 1) return false;
    const kind = this.#btf.kind(id) ?? 0;
    return DERIVED.has(kind) || ((COMPOSITES.has(kind) || ENUMS.has(kind)) && this.#isNamed[id] === 0);
  }

  /** Whether the type has no name in BTF, but needs one in C. */
  isCut(id: number): boolean {
    return this.#isCut[id] === 1;
  }

  /** Whether a pointer refers to itself, so that C can only have it as `void *`. */
  isOpaque(id: number): boolean {
    return this.#isOpaque[id] === 1;
  }

  isReached(id: number): boolean {
    return this.#reach[id] !== 0;
  }

  /** The number of types that use a type. */
  uses(id: number): number {
    return this.#uses[id] as number;
  }

  *#reachFrom(roots: Iterable<number>): Pauses<void> {
    const btf = this.#btf;
    const open: number[] = [];
    const push = (id: number, complete: boolean): void => {
      const level = complete ? COMPLETE : WEAK;
      if ((this.#reach[id] as number) >= level) return;
      this.#reach[id] = level;
      open.push(id);
    };
    let steps = 0;
    for (const root of roots) {
      push(root, true);
      for (let id = open.pop(); id !== undefined; id = open.pop()) {
        const isBody = COMPOSITES.has(btf.kind(id) ?? 0);
        if (isBody && this.#isNamed[id] === 1 && this.#reach[id] === WEAK) continue;
        const complete = partComplete(btf, id, this.#reach[id] === COMPLETE);
        for (let at = 0; at < partCount(btf, id); at++) push(part(btf, id, at), complete);
        steps += 1 + partCount(btf, id);
        if (steps > STEPS) {
          steps = 0;
          yield PAUSE;
        }
      }
    }
  }

  /** Whether a type's C has the C of its parts. */
  #leads(id: number): boolean {
    if (this.#reach[id] === 0 || this.#isCut[id] === 1 || this.#isOpaque[id] === 1) return false;
    return !(COMPOSITES.has(this.#btf.kind(id) ?? 0) && this.#isNamed[id] === 1);
  }

  /** Returns all types that lead to others, each after its parts. */
  *#withoutCycles(): Pauses<readonly number[]> {
    const breaks: readonly ((id: number) => boolean)[] = [
      (id) => COMPOSITES.has(this.#btf.kind(id) ?? 0),
      (id) => this.#btf.kind(id) === PTR,
      () => true,
    ];
    let { order, cycles } = yield* this.#sorted();
    for (const [level, breaksHere] of breaks.entries()) {
      if (cycles.length === 0) break;
      for (const id of cycles) if (breaksHere(id)) (level === 0 ? this.#isCut : this.#isOpaque)[id] = 1;
      ({ order, cycles } = yield* this.#sorted());
    }
    return order;
  }

  /** Tarjan's strongly connected components, without recursion. `cycles`: the types that contain themselves. */
  *#sorted(): Pauses<{ readonly order: number[]; readonly cycles: number[] }> {
    const btf = this.#btf;
    const index = new Uint32Array(btf.count);
    const low = new Uint32Array(btf.count);
    const isOpen = new Uint8Array(btf.count);
    const component: number[] = [];
    const order: number[] = [];
    const cycles: number[] = [];
    const path: number[] = [];
    const next: number[] = [];
    let last = 0;
    let steps = 0;
    const enter = (id: number): void => {
      index[id] = low[id] = ++last;
      isOpen[id] = 1;
      component.push(id);
      path.push(id);
      next.push(0);
    };
    for (let root = 1; root < btf.count; root++) {
      if (index[root] !== 0 || !this.#leads(root)) continue;
      enter(root);
      while (path.length > 0) {
        if (++steps % STEPS === 0) yield PAUSE;
        const id = path.at(-1) as number;
        const at = next[next.length - 1] as number;
        if (at < partCount(btf, id)) {
          next[next.length - 1] = at + 1;
          const to = part(btf, id, at);
          if (to === id) cycles.push(id);
          else if (index[to] === 0 && this.#leads(to)) enter(to);
          else if (isOpen[to] === 1) low[id] = Math.min(low[id] as number, index[to] as number);
          continue;
        }
        path.pop();
        next.pop();
        const above = path.at(-1);
        if (above !== undefined) low[above] = Math.min(low[above] as number, low[id] as number);
        if (low[id] !== index[id]) continue;
        const from = component.lastIndexOf(id);
        const members = component.splice(from);
        for (const one of members) isOpen[one] = 0;
        order.push(...(members.length === 1 ? members : []));
        if (members.length > 1) for (const one of members) cycles.push(one);
      }
    }
    return { order, cycles };
  }

  *#cutRepeats(order: readonly number[]): Pauses<void> {
    const btf = this.#btf;
    const depth = new Uint8Array(btf.count);
    /** The number of types in the text of a type, and in its declarator alone. */
    const size = new Float64Array(btf.count).fill(1);
    const declarator = new Float64Array(btf.count).fill(1);
    let steps = 0;
    for (let id = 1; id < btf.count; id++) {
      const kind = btf.kind(id) ?? 0;
      if (kind === DECL_TAG) size[btf.target(id)] = (size[btf.target(id)] as number) + 1;
      if (ENUMS.has(kind)) size[id] = 1 + btf.memberCount(id);
      if (this.#reach[id] === 0 || (COMPOSITES.has(kind) && this.#isNamed[id] === 1 && this.#reach[id] === WEAK))
        continue;
      for (let at = 0; at < partCount(btf, id); at++) {
        const to = part(btf, id, at);
        this.#uses[to] = (this.#uses[to] as number) + 1;
      }
      steps += 1 + partCount(btf, id);
      if (steps > STEPS) {
        steps = 0;
        yield PAUSE;
      }
    }
    for (let id = 1; id < btf.count; id++)
      if (ENUMS.has(btf.kind(id) ?? 0) && this.has(id) && (this.#uses[id] as number) > 1) this.#isCut[id] = 1;
    let left = REPEATS_MAX;
    for (const id of order) {
      steps += 1 + partCount(btf, id);
      if (steps > STEPS) {
        steps = 0;
        yield PAUSE;
      }
      if (!this.has(id)) continue;
      for (let at = 0; at < partCount(btf, id); at++) {
        const to = part(btf, id, at);
        const isInline = this.has(to);
        const more = isInline ? (size[to] as number) : 1;
        const isWhole = isInline && btf.kind(id) === FUNC_PROTO;
        size[id] = (size[id] as number) + more;
        declarator[id] = (declarator[id] as number) + (isWhole ? more : (declarator[to] as number));
        if (!isInline) continue;
        depth[id] = Math.max(depth[id] as number, 1 + (depth[to] as number));
      }
      const isLong = DERIVED.has(btf.kind(id) ?? 0) && (declarator[id] as number) > DECLARATOR_MAX;
      const again = Math.max((this.#uses[id] as number) - 1, 0);
      const repeated = (size[id] as number) > SMALL ? (size[id] as number) * again : 0;
      if (isLong || (depth[id] as number) >= DEPTH_MAX || repeated > left) this.#isCut[id] = 1;
      else left -= repeated;
    }
  }
}
