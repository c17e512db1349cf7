import type { Misfit } from "./misfit.ts";
import type { Names } from "./names.ts";
import type { Member, Shape } from "./shape.ts";

/** Reads and writes one kind of value in one form. `at`: the first byte of the value, or of the bitfield. */
export interface Leaf {
  /** JSON, or why the value has no typed form. */
  readonly read: (bytes: Buffer, at: number, names: Names) => string | Misfit;
  /** Writes a value of JSON over zeros. */
  readonly write: (bytes: Buffer, at: number, json: unknown, names: Names) => Misfit | null;
}

/** The bits of a member in the bytes that follow its `at`; `bits` 0: the shape's own. */
export type Bits = Pick<Member, "shift" | "bits">;

export const WHOLE: Bits = { shift: 0, bits: 0 };

/** One of the two forms: its scalars, and how structs, unions, sections and arrays of char look in it. */
export interface Dialect {
  readonly leaf: (shape: Exclude<Shape, { kind: "array" | "struct" | "union" | "section" }>, bits: Bits) => Leaf;
  /** Whether codecs count. If not, a coded shape is its inner one. */
  readonly coded: boolean;
  /** An array of char; `elements` is it as a list of numbers. */
  readonly chars: (array: Extract<Shape, { kind: "array" }>, elements: Leaf) => Leaf;
  /** Anonymous members stand in their parent. If not, they are together in a member with an empty name. */
  readonly flat: boolean;
}
