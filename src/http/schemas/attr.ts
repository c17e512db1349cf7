/**
 * Schemas of the syscall door and of the body that creates a map. Their fields come from abi/attr.ts: a field that is
 * added there appears here, or does not compile.
 */

import type { TSchema } from "typebox";
import {
  type AttrField,
  BATCH_FIELDS,
  BTF_FIELDS,
  BTF_ID_FIELDS,
  CREATE_FIELDS,
  ELEMENT_FIELDS,
  type FieldKind,
  fieldNames,
  ID_FIELDS,
  INFO_FIELDS,
  PATH_FIELDS,
} from "../../abi/attr.ts";
import { MIRROR_SHAPES } from "../../abi/service.ts";
import { all, CLOSED, hex, nullable, nullableHex, nullableWord, oneOf, optional, scalar, seq } from "./fields.ts";
import { Type } from "./type.ts";

const NUMBERS: ReadonlySet<FieldKind> = new Set(["u32", "s32", "u64", "fd"]);
const isNumber = ({ kind }: AttrField): boolean => NUMBERS.has(kind);

const FIELDS = [
  ...ELEMENT_FIELDS,
  ...BATCH_FIELDS,
  ...CREATE_FIELDS,
  ...PATH_FIELDS,
  ...ID_FIELDS,
  ...INFO_FIELDS,
  ...BTF_FIELDS,
  ...BTF_ID_FIELDS,
] as const;
type NamesOf<Kind extends FieldKind> = Extract<(typeof FIELDS)[number], { readonly kind: Kind }>["name"];

/** Pointers, in the order of the API's document. */
const POINTERS: Readonly<Record<NamesOf<"pointer">, TSchema>> = {
  key: nullableHex(),
  value: nullableHex(),
  next_key: nullableHex(),
  keys: nullableHex(),
  values: nullableHex(),
  in_batch: nullableHex(),
  out_batch: nullableHex(),
  info: nullableHex(),
  excl_prog_hash: nullableHex(),
  btf: nullableHex(),
};
const TEXTS: Readonly<Record<NamesOf<"char16" | "path">, TSchema>> = {
  map_name: nullable("string"),
  pathname: nullable("string"),
};

export const DoorRequestSchema = Type.Object(
  {
    cmd: oneOf([Type.String(), Type.Integer()], {
      $id: "CommandName",
      description: "A name of enum bpf_cmd, or its number.",
    }),
    size: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 2 ** 32 - 1,
        description: "bpf(2)'s third argument. More than 4096 is refused with E2BIG.",
      }),
    ),
    tail: Type.Optional(
      Type.String({
        description:
          "The bytes of the attr after the command's last field, in hex. Bytes that are not zero are refused: with EINVAL, or from byte 168 of the attr on with E2BIG.",
      }),
    ),
    attr: Type.Optional(
      Type.Object(
        {
          ...optional(all(fieldNames(FIELDS.filter(isNumber)), scalar())),
          ...optional({ ...POINTERS, ...TEXTS }),
        },
        {
          $id: "BpfAttr",
          ...CLOSED,
          description:
            "The command's own fields of union bpf_attr; any other field is answered with 400. An omitted field is zero, or NULL.",
        },
      ),
    ),
  },
  { $id: "DoorRequest", ...CLOSED },
);

export const DoorAnswerSchema = Type.Object(
  {
    ret: Type.Integer({ description: "The return value of bpf(2): -1, 0, or a descriptor." }),
    errno: nullable("string"),
    seq: seq(),
    attr: Type.Object(
      {
        ...optional(all(["value", "next_key", "keys", "values", "out_batch", "info", "hash"], hex())),
        ...optional(all(["next_id", "count", "info_len"], Type.Integer())),
        btf: Type.Optional(hex()),
        name: Type.Optional(Type.String({ description: "The name of the BTF, if info has a pointer for it." })),
      },
      { $id: "BpfAttrOut", ...CLOSED, description: "The output fields, which the kernel would have written." },
    ),
    detail: Type.Optional(Type.String({ description: "The rule that chose the errno." })),
  },
  { $id: "DoorAnswer", ...CLOSED },
);

export const CreateSchema = Type.Object(
  {
    ...optional(all(fieldNames(CREATE_FIELDS.filter(isNumber)), scalar())),
    map_name: Type.Optional(nullable("string", { description: "At most 15 bytes: letters, digits, _ and a dot." })),
    excl_prog_hash: Type.Optional(nullableHex()),
    mirror_shape: Type.Optional(
      nullableWord(MIRROR_SHAPES, {
        description:
          "Only for LRU maps: exact (the default: the kernel map has the max_entries and map_flags asked for, so that libbpf reuses it) or roomy (the kernel map has more room, so that only the ledger evicts elements).",
      }),
    ),
  },
  {
    $id: "CreateMapBody",
    ...CLOSED,
    description: "BPF_MAP_CREATE's fields of union bpf_attr, and mirror_shape. An omitted field is zero.",
  },
);
