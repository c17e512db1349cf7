import type { BtfType } from "./map.ts";

/** Facts of <linux/btf.h>. */
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

/** btf_type_is_i32(), kernel/bpf/btf.c. */
export function isInteger(type: BtfType | undefined, bits: number): boolean {
  return type !== undefined && type.kind === BTF_KIND.INT && type.bits === bits && type.size * 8 === bits;
}
