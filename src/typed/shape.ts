/**
 * Shapes: BTF types as values are read and written by them, without typedefs and modifiers, every size checked and every
 * codec known. Shapes are shared: a struct that is part of many others is one shape.
 */

import type { Codec } from "./codec.ts";

interface Common {
  readonly bytes: number;
  /** Of structs, unions and sections the number of their parts, of arrays times the number of elements; at least 1. */
  readonly leaves: number;
  /** The most characters that a value has in either form. */
  readonly textMax: number;
  /** Levels of nested structs and arrays; 0: a scalar. */
  readonly height: number;
}

export interface IntShape extends Common {
  readonly kind: "int";
  /** The width and its offset from the first byte, in bits: 8 * bytes and 0, unless a compiler before LLVM 7 wrote a bitfield. */
  readonly bits: number;
  readonly offset: number;
  readonly signed: boolean;
  readonly isChar: boolean;
  readonly isBool: boolean;
}

export interface EnumShape extends Common {
  readonly kind: "enum";
  readonly signed: boolean;
  readonly is64: boolean;
  readonly name: string;
  readonly values: readonly { readonly name: string; readonly value: bigint }[];
}

interface FloatShape extends Common {
  readonly kind: "float";
}

/** `kernel`: a kptr, which only programs access. */
export interface PointerShape extends Common {
  readonly kind: "pointer";
  readonly kernel: boolean;
}

/**
 * `chars`: the element type is char, also by a typedef. `plainChars`: by no typedef; only such arrays are strings for
 * bpftool.
 */
export interface ArrayShape extends Common {
  readonly kind: "array";
  readonly element: Shape;
  readonly count: number;
  readonly chars: boolean;
  readonly plainChars: boolean;
}

export interface Member {
  /** Empty: an anonymous struct or union. */
  readonly name: string;
  /** The first byte, and of a bitfield the first bit in it. */
  readonly at: number;
  readonly shift: number;
  /** The width of a bitfield in bits; 0: it is none. */
  readonly bits: number;
  readonly shape: Shape;
}

/** `special`: bpf_spin_lock and its like, which only programs access. */
export interface StructShape extends Common {
  readonly kind: "struct" | "union";
  readonly name: string;
  readonly members: readonly Member[];
  readonly special: boolean;
}

/** A data section: .bss, .data, .rodata, .kconfig. Its members are variables. */
export interface SectionShape extends Common {
  readonly kind: "section";
  readonly name: string;
  readonly members: readonly Member[];
}

/** A type that has a codec. `formatted` ignores it. */
interface CodedShape extends Common {
  readonly kind: "coded";
  readonly codec: Codec;
  readonly inner: Shape;
}

export type Shape =
  | IntShape
  | EnumShape
  | FloatShape
  | PointerShape
  | ArrayShape
  | StructShape
  | SectionShape
  | CodedShape;

/** Shapes that have parts. */
export type Whole = StructShape | SectionShape;
