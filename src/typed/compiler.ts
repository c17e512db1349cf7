/**
 * Makes readers and writers of shapes, one for each shape and form: closures that know every offset and name, so that a
 * value is read without a look at its type.
 */

import { type Bits, type Dialect, type Leaf, WHOLE } from "./leaf.ts";
import { Misfit, shown } from "./misfit.ts";
import { isWhole } from "./parts.ts";
import { readWhole } from "./reader.ts";
import type { ArrayShape, Shape } from "./shape.ts";
import { writeWhole } from "./writer.ts";

export class Compiler {
  readonly dialect: Dialect;
  readonly #leaves = new Map<Shape, Leaf>();

  constructor(dialect: Dialect) {
    this.dialect = dialect;
  }

  readonly leaf = (shape: Shape, bits: Bits = WHOLE): Leaf => {
    if (bits.shift !== 0 || bits.bits !== 0) return this.#make(shape, bits);
    const known = this.#leaves.get(shape) ?? this.#make(shape, WHOLE);
    this.#leaves.set(shape, known);
    return known;
  };

  #make(shape: Shape, bits: Bits): Leaf {
    if (shape.kind === "coded" && !this.dialect.coded) return this.leaf(shape.inner, bits);
    if (isWhole(shape))
      return { read: readWhole(shape, this.dialect, this.leaf), write: writeWhole(shape, this.dialect, this.leaf) };
    if (shape.kind !== "array") return this.dialect.leaf(shape, bits);
    const elements = array(shape, this.leaf(shape.element));
    return shape.chars ? this.dialect.chars(shape, elements) : elements;
  }
}

function array({ count, element: { bytes: stride } }: ArrayShape, element: Leaf): Leaf {
  return {
    read: (bytes, at, names) => {
      let text = "[";
      for (let index = 0; index < count; index++) {
        const part = element.read(bytes, at + index * stride, names);
        if (typeof part !== "string") return part.inside(`[${index}]`);
        text += index === 0 ? part : `,${part}`;
      }
      return `${text}]`;
    },
    write: (bytes, at, json, names) => {
      if (!Array.isArray(json)) return new Misfit(`a list of ${count} required, found ${shown(json)}`);
      if (json.length !== count) return new Misfit(`a list of ${count} required, found one of ${json.length}`);
      for (let index = 0; index < count; index++) {
        const misfit = element.write(bytes, at + index * stride, json[index], names);
        if (misfit !== null) return misfit.inside(`[${index}]`);
      }
      return null;
    },
  };
}
