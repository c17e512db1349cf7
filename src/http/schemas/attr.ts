/** The body of the syscall door; its `attr` is a part of union bpf_attr. */

import { type TSchema, Type } from "typebox";
import { MIRROR_SHAPES } from "../../abi/service.ts";
import { CLOSED, hex, nullable, nullableHex, nullableWord, oneOf, scalar, seq } from "./fields.ts";

const BPF_ATTR_SCALARS = [
  "map_fd",
  "flags",
  "count",
  "elem_flags",
  "map_type",
  "key_size",
  "value_size",
  "max_entries",
  "map_flags",
  "inner_map_fd",
  "numa_node",
  "map_ifindex",
  "btf_fd",
  "btf_key_type_id",
  "btf_value_type_id",
  "btf_vmlinux_value_type_id",
  "map_extra",
  "value_type_btf_obj_fd",
  "map_token_fd",
  "excl_prog_hash_size",
  "bpf_fd",
  "file_flags",
  "path_fd",
  "start_id",
  "map_id",
  "next_id",
  "open_flags",
  "info_len",
  "btf_size",
] as const;
const BPF_ATTR_POINTERS = [
  "key",
  "value",
  "next_key",
  "keys",
  "values",
  "in_batch",
  "out_batch",
  "info",
  "excl_prog_hash",
  "btf",
] as const;
const BPF_ATTR_TEXTS = ["map_name", "pathname"] as const;

const optional = (names: readonly string[], schema: () => TSchema): Record<string, TSchema> =>
  Object.fromEntries(names.map((name) => [name, Type.Optional(schema())]));

export const DoorRequestSchema = Type.Object(
  {
    cmd: oneOf([Type.String(), Type.Integer()], {
      $id: "CommandName",
      description: "A name of enum bpf_cmd, or its number.",
    }),
    size: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1, description: "bpf(2)'s third argument; beyond 4096 E2BIG." }),
    ),
    tail: Type.Optional(
      Type.String({
        description:
          "The bytes behind the command's last field, in hex. EINVAL if they are not zero, E2BIG beyond 168.",
      }),
    ),
    attr: Type.Optional(
      Type.Object(
        {
          ...optional(BPF_ATTR_SCALARS, scalar),
          ...optional(BPF_ATTR_POINTERS, () => nullableHex()),
          ...optional(BPF_ATTR_TEXTS, () => nullable("string")),
        },
        {
          $id: "BpfAttr",
          ...CLOSED,
          description: "The command's own fields of union bpf_attr; others are 400. Left out: zero, or NULL.",
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
        ...optional(["value", "next_key", "keys", "values", "out_batch", "info", "hash"], hex),
        ...optional(["next_id", "count", "info_len"], () => Type.Integer()),
      },
      { $id: "BpfAttrOut", ...CLOSED, description: "The output fields, which the kernel would have written." },
    ),
    detail: Type.Optional(Type.String({ description: "The rule that chose the errno." })),
  },
  { $id: "DoorAnswer", ...CLOSED },
);

export const CreateSchema = Type.Object(
  {
    ...optional(
      BPF_ATTR_SCALARS.slice(BPF_ATTR_SCALARS.indexOf("map_type"), BPF_ATTR_SCALARS.indexOf("bpf_fd")),
      scalar,
    ),
    map_name: Type.Optional(nullable("string", { description: "At most 15 bytes: letters, digits, _ and a dot." })),
    excl_prog_hash: Type.Optional(nullableHex()),
    mirror_shape: Type.Optional(
      nullableWord(MIRROR_SHAPES, {
        description:
          "LRU maps alone: exact (the default: the kernel map has the max_entries and map_flags asked for, so that libbpf reuses it) or roomy (the kernel map has more room, so that only the ledger evicts elements).",
      }),
    ),
  },
  {
    $id: "CreateMapBody",
    ...CLOSED,
    description: "BPF_MAP_CREATE's fields of union bpf_attr, and mirror_shape. Left out: zero.",
  },
);
