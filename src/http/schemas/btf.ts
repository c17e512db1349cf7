/** Schemas of BTF: types as `bpftool -j btf dump` has them. */

import type { TSchema } from "typebox";
import { BTF_KIND } from "../../maps/btf_types.ts";
import { all, CLOSED, nullable, optional } from "./fields.ts";
import { Type } from "./type.ts";

const BTF = {
  id: nullable("integer", { description: "null: it is the kernel's own, and has a name." }),
  name: nullable("string", { description: "Of the kernel's own: vmlinux, or a module. null: it was loaded." }),
  size: Type.Integer({ description: "Bytes." }),
  kernel: Type.Boolean({ description: "Whether it is the kernel's own." }),
};

export const BtfPage = Type.Object(
  {
    btf: Type.Array(Type.Object(BTF, { $id: "Btf", ...CLOSED })),
    next: nullable("string", { description: "The `after` of the next page; null: this is the last one." }),
  },
  { $id: "BtfPage", ...CLOSED },
);

const item = (name: string, fields: Record<string, TSchema>, more: Record<string, TSchema> = {}): TSchema =>
  Type.Object({ ...fields, ...optional(more) }, { $id: name, ...CLOSED });

const integer = Type.Integer();
const text = Type.String();

const BtfType = Type.Object(
  {
    id: Type.Integer({ description: "Types refer to each other by it; 0 is void." }),
    kind: Type.Enum(Object.keys(BTF_KIND), { type: "string" }),
    name: Type.String({ description: "(anon): it has none." }),
    ...optional({
      ...all(
        [
          "size",
          "type_id",
          "bits_offset",
          "nr_bits",
          "index_type_id",
          "nr_elems",
          "vlen",
          "ret_type_id",
          "component_idx",
        ],
        integer,
      ),
      ...all(["encoding", "fwd_kind", "linkage"], text),
      members: Type.Array(
        item("BtfMember", { name: text, ...all(["type_id", "bits_offset"], integer) }, { bitfield_size: integer }),
      ),
      values: Type.Array(
        item(
          "BtfEnumerator",
          { name: text, val: Type.Number() },
          { digits: Type.String({ description: "Of a value beyond 2^53, which `val` has as the nearest double." }) },
        ),
      ),
      params: Type.Array(item("BtfParam", { name: text, type_id: integer })),
      vars: Type.Array(item("BtfVariable", all(["type_id", "offset", "size"], integer))),
    }),
  },
  { $id: "BtfType", ...CLOSED, description: "A type, with the fields that its kind has." },
);

export const CText = Type.String({
  $id: "CText",
  description: "Definitions of C, each after those that it needs.",
});

export const BtfDump = Type.Object({ ...BTF, types: Type.Array(BtfType) }, { $id: "BtfDump", ...CLOSED });

export const MapTypesDump = Type.Object(
  {
    map: integer,
    btf_id: integer,
    key_type_id: Type.Integer({ description: "0: keys have no type." }),
    value_type_id: integer,
    types: Type.Array(Type.Ref("BtfType")),
  },
  { $id: "MapTypes", ...CLOSED },
);
