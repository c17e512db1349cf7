import type { BtfType } from "./map.ts";

/** Kinds of types, as in <linux/btf.h>. */
export const BTF_KIND = {
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;

/** BTF_INT_SIGNED, BTF_INT_CHAR, BTF_INT_BOOL of <linux/btf.h>. An unsigned integer has none of them. */
export const INT_ENCODING = { SIGNED: 1, CHAR: 2, BOOL: 4 } as const;

/** btf_type_is_modifier() */
export const MODIFIERS: ReadonlySet<number> = new Set([
  BTF_KIND.TYPEDEF,
  BTF_KIND.VOLATILE,
  BTF_KIND.CONST,
  BTF_KIND.RESTRICT,
  BTF_KIND.TYPE_TAG,
]);

/** BTF_MAX_TYPE */
export const BTF_TYPE_ID_MAX = 0xfffff;

/** The bytes that follow struct btf_type, by kind: once, and for each of vlen. */
export const REST: Readonly<Record<number, readonly [once: number, each: number]>> = {
  [BTF_KIND.INT]: [4, 0],
  [BTF_KIND.PTR]: [0, 0],
  [BTF_KIND.ARRAY]: [12, 0],
  [BTF_KIND.STRUCT]: [0, 12],
  [BTF_KIND.UNION]: [0, 12],
  [BTF_KIND.ENUM]: [0, 8],
  [BTF_KIND.FWD]: [0, 0],
  [BTF_KIND.TYPEDEF]: [0, 0],
  [BTF_KIND.VOLATILE]: [0, 0],
  [BTF_KIND.CONST]: [0, 0],
  [BTF_KIND.RESTRICT]: [0, 0],
  [BTF_KIND.FUNC]: [0, 0],
  [BTF_KIND.FUNC_PROTO]: [0, 8],
  [BTF_KIND.VAR]: [4, 0],
  [BTF_KIND.DATASEC]: [0, 12],
  [BTF_KIND.FLOAT]: [0, 0],
  [BTF_KIND.DECL_TAG]: [4, 0],
  [BTF_KIND.TYPE_TAG]: [0, 0],
  [BTF_KIND.ENUM64]: [0, 12],
};

/** btf_type_is_i32(), kernel/bpf/btf.c. */
export function isInteger(type: BtfType | undefined, bits: number): boolean {
  return type !== undefined && type.kind === BTF_KIND.INT && type.bits === bits && type.size * 8 === bits;
}
