/**
 * The types of a map's keys and values in JSON, as they are given for maps without BTF: {"key": "cidr4", "value":
 * {"packets": "u64"}}, or codecs for members of types that there are: {"codecs": {"value.src": "inet_ip"}}.
 */

import { checkedBtf } from "../btf/check.ts";
import { isRefusal } from "../maps/refusal.ts";
import { withCodec } from "./codec_paths.ts";
import { describe } from "./describe.ts";
import { Description } from "./description.ts";
import { Form } from "./form.ts";
import { Misfit, shown } from "./misfit.ts";
import { ShapeMaker } from "./shape_maker.ts";
import type { ElementFacts, ElementTypes } from "./typed_map.ts";

const VOID = 0;
const SIDES = ["key", "value"] as const;
/** The most codecs that are given by path. */
const PATHS_MAX = 1024;

/** Descriptions; left out: there is no type. */
export interface DescribedTypes {
  readonly key?: unknown;
  readonly value?: unknown;
}

type Sizes = Pick<ElementFacts, "keySize" | "valueSize" | "isTrie">;

/** BTF as BPF_BTF_LOAD takes it, and the types in it; 0: none. */
export interface MadeTypes {
  readonly blob: Buffer;
  readonly keyTypeId: number;
  readonly valueTypeId: number;
}

/** Describes types in the JSON that `makeTypes` takes. */
export function describeTypes(
  { btf, keyTypeId, valueTypeId }: ElementTypes,
  { isTrie }: Pick<Sizes, "isTrie">,
): DescribedTypes | Misfit {
  const maker = new ShapeMaker(btf);
  const described: Record<string, unknown> = {};
  for (const [side, id] of [
    ["key", keyTypeId],
    ["value", valueTypeId],
  ] as const) {
    if (id === VOID) continue;
    const shape = maker.make(id, side === "key" && isTrie);
    const json = shape instanceof Misfit ? shape : describe(shape);
    if (json instanceof Misfit) return json.inside(side);
    described[side] = json;
  }
  return described;
}

/** Makes types of JSON. `own`: those that the map has, to which codecs are added. Misfits begin with "key" or "value". */
export function makeTypes(json: unknown, sizes: Sizes, own: ElementTypes | null): MadeTypes | Misfit {
  const given = withCodecs(json, sizes, own);
  if (given instanceof Misfit) return given;
  const description = new Description();
  const ids: Record<string, number> = { key: VOID, value: VOID };
  for (const side of SIDES) {
    if (given[side] === undefined) continue;
    const bytes = side === "key" ? sizes.keySize : sizes.valueSize;
    const id = description.add(given[side], bytes);
    if (id instanceof Misfit) return id.inside(side);
    ids[side] = id;
  }
  const made = { blob: description.blob(), keyTypeId: ids.key as number, valueTypeId: ids.value as number };
  return checked(made, sizes) ?? made;
}

/** Why the kernel would not load the BTF, or why the types have no forms. */
function checked({ blob, keyTypeId, valueTypeId }: MadeTypes, { keySize, valueSize, isTrie }: Sizes): Misfit | null {
  const btf = checkedBtf(blob);
  if (isRefusal(btf)) return new Misfit(btf.detail, "types");
  const key = keyTypeId === VOID ? null : Form.make(btf, keyTypeId, { bytes: keySize, isKey: true, isPrefix: isTrie });
  if (key instanceof Misfit) return key.inside("key");
  const value =
    valueTypeId === VOID ? null : Form.make(btf, valueTypeId, { bytes: valueSize, isKey: false, isPrefix: false });
  return value instanceof Misfit ? value.inside("value") : null;
}

function withCodecs(json: unknown, sizes: Sizes, own: ElementTypes | null): DescribedTypes | Misfit {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    return new Misfit(`an object required, found ${shown(json)}`, "types");
  const stranger = Object.keys(json).find((name) => name !== "key" && name !== "value" && name !== "codecs");
  if (stranger !== undefined)
    return new Misfit(`"key", "value" and "codecs" allowed, found ${shown(stranger)}`, "types");
  const { codecs, ...given } = json as DescribedTypes & { readonly codecs?: unknown };
  const isNew = given.key !== undefined || given.value !== undefined;
  if (codecs === undefined) return isNew ? given : new Misfit('"key", "value" or "codecs" required', "types");
  if (typeof codecs !== "object" || codecs === null || Array.isArray(codecs))
    return new Misfit(`an object of codecs by member required, found ${shown(codecs)}`, "codecs");
  const paths = Object.entries(codecs);
  if (paths.length > PATHS_MAX) return new Misfit(`${paths.length} members (limit ${PATHS_MAX})`, "codecs");
  if (!isNew && own === null)
    return new Misfit('"key" or "value" required, because the map has no types of its own', "types");
  const types = isNew ? given : describeTypes(own as ElementTypes, sizes);
  if (types instanceof Misfit) return types;
  const all: Record<string, unknown> = { ...types };
  for (const [path, codec] of paths) {
    const [side = "", ...members] = path.split(".");
    if (!Object.hasOwn(all, side))
      return new Misfit(
        `a path that begins with ${Object.keys(all).join(" or ")} required, found ${shown(path)}`,
        "codecs",
      );
    const described = withCodec(all[side], members, codec);
    if (described instanceof Misfit) return described.inside(side);
    all[side] = described;
  }
  return all;
}
