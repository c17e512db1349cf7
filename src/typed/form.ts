/**
 * The two forms of a type: `formatted`, as `bpftool -j map dump` prints it, and `typed`, this project's own. Both are read
 * from bytes and written to them; docs/typed.md has the rules.
 */

import type { Btf } from "../btf/btf.ts";
import { Compiler } from "./compiler.ts";
import { coverage } from "./coverage.ts";
import { FORMATTED } from "./formatted_leaves.ts";
import type { Leaf } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";
import type { Names } from "./names.ts";
import { isWhole, membersOf, partsOf } from "./parts.ts";
import type { Shape } from "./shape.ts";
import { bare, ShapeMaker } from "./shape_maker.ts";
import { TYPED } from "./typed_leaves.ts";

const NO_NAMES: Names = {};
const JSON_START = /^\s*[{["]/;

/** The use of a type in a map. */
export interface Role {
  /** The bytes that the map's keys or values have. */
  readonly bytes: number;
  /** A key has a typed form only if its padding is zero, because other padding makes it another key. */
  readonly isKey: boolean;
  /** The key of a BPF_MAP_TYPE_LPM_TRIE. */
  readonly isPrefix: boolean;
}

export class Form {
  /** The most characters of a value in either form. */
  readonly textMax: number;
  readonly #shape: Shape;
  readonly #typed: Leaf;
  readonly #formatted: Leaf;
  readonly #padding: readonly Padding[];
  /** Why a form cannot be written, or the typed one read: a struct has two members of one name. */
  readonly #ambiguous: Misfit | null;

  private constructor(shape: Shape, { isKey }: Role) {
    this.#shape = shape;
    this.textMax = shape.textMax;
    this.#typed = new Compiler(TYPED).leaf(shape);
    this.#formatted = new Compiler(FORMATTED).leaf(shape);
    this.#padding = isKey ? paddingOf(shape) : [];
    this.#ambiguous = ambiguity(shape);
  }

  /** The forms of a type; a Misfit if it has none. Takes time linear in the types that it is made of. */
  static make(btf: Btf, id: number, role: Role): Form | Misfit {
    const shape = new ShapeMaker(btf).make(id, role.isPrefix);
    if (shape instanceof Misfit) return shape;
    if (shape.bytes !== role.bytes) return new Misfit(`a type of ${shape.bytes} bytes, where ${role.bytes} are needed`);
    return new Form(shape, role);
  }

  /** The forms of the key of an array that has no type for it: a u32. */
  static index(): Form {
    const u32: Shape = {
      ...{ kind: "int", bytes: 4, bits: 32, offset: 0, signed: false, isChar: false, isBool: false },
      ...{ leaves: 1, textMax: 10, height: 0 },
    };
    return new Form(u32, { bytes: 4, isKey: true, isPrefix: false });
  }

  get bytes(): number {
    return this.#shape.bytes;
  }

  /** JSON as `bpftool -j map dump` prints it. */
  formatted(bytes: Buffer, at = 0): string {
    return this.#formatted.read(bytes, at, NO_NAMES) as string;
  }

  /** JSON of which `fromTyped` makes the same bytes, padding of values aside; a Misfit if there is none. */
  typed(bytes: Buffer, names: Names = NO_NAMES, at = 0): string | Misfit {
    if (this.#ambiguous !== null) return this.#ambiguous;
    if (this.#padding.some((padding) => isPadded(bytes, at, padding))) return new Misfit("padding that is not zero");
    return this.#typed.read(bytes, at, names);
  }

  /** Bytes, with zeros as padding. */
  fromTyped(json: unknown, names: Names = NO_NAMES): Buffer | Misfit {
    return this.#written(this.#typed, json, names);
  }

  fromFormatted(json: unknown): Buffer | Misfit {
    return this.#written(this.#formatted, json, NO_NAMES);
  }

  /**
   * Bytes of a text in a path: a bare scalar or prefix, or JSON of the typed form, which begins with {, [ or ". A lone
   * address is a prefix of all its bits.
   */
  fromText(text: string, names: Names = NO_NAMES): Buffer | Misfit {
    if (JSON_START.test(text)) {
      try {
        return this.fromTyped(JSON.parse(text), names);
      } catch {
        return new Misfit(`JSON, or a text that does not begin with {, [ or ", required, found ${shown(text)}`);
      }
    }
    const shape = this.#shape;
    if (shape.kind === "coded" && shape.codec.name === "cidr" && !text.includes("/"))
      return this.fromTyped(`${text}/${8 * (shape.bytes - 4)}`, names);
    const plain = bare(shape);
    if (shape.kind !== "coded" && plain.kind === "int" && plain.isBool) return this.fromTyped(boolOf(text), names);
    if (shape.kind !== "coded" && (isWhole(shape) || (shape.kind === "array" && !shape.chars)))
      return new Misfit(`JSON of ${isWhole(shape) ? "an object" : "a list"} required, found ${shown(text)}`);
    return this.fromTyped(text, names);
  }

  #written(leaf: Leaf, json: unknown, names: Names): Buffer | Misfit {
    if (this.#ambiguous !== null) return this.#ambiguous;
    const bytes = Buffer.alloc(this.#shape.bytes);
    return leaf.write(bytes, 0, json, names) ?? bytes;
  }
}

function boolOf(text: string): unknown {
  return text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text;
}

/** Bytes that have the same bits of padding: from `at` to `end`, which is excluded. */
interface Padding {
  readonly at: number;
  readonly end: number;
  readonly bits: number;
}

function paddingOf(shape: Shape): Padding[] {
  const mask = coverage(shape);
  const all: Padding[] = [];
  for (let at = 0; at < mask.length; ) {
    let end = at + 1;
    while (end < mask.length && mask[end] === mask[at]) end++;
    if (mask[at] !== 0xff) all.push({ at, end, bits: ~(mask[at] as number) & 0xff });
    at = end;
  }
  return all;
}

function isPadded(bytes: Buffer, from: number, { at, end, bits }: Padding): boolean {
  for (let byte = from + at; byte < from + end; byte++) if (((bytes[byte] as number) & bits) !== 0) return true;
  return false;
}

/** The first struct with two members of the same name, which the kernel does not refuse. */
function ambiguity(shape: Shape): Misfit | null {
  const [open, seen] = [[shape], new Set<Shape>()];
  for (let one = open.pop(); one !== undefined; one = open.pop()) {
    if (seen.has(one)) continue;
    seen.add(one);
    if (one.kind === "coded") open.push(one.inner);
    else if (one.kind === "array") open.push(one.element);
    else if (isWhole(one)) {
      const { twice } = membersOf(partsOf(one.members), true);
      if (twice !== null) return new Misfit(`${one.kind} ${one.name} has two members ${JSON.stringify(twice)}`);
      for (const { shape: inner } of one.members) open.push(inner);
    }
  }
  return null;
}
