/**
 * Keys and values in other forms than hex: `?as=typed` and `?as=formatted` in answers, `typed` and `formatted` in bodies
 * (docs/typed.md). The types are those of the map's BTF.
 */

import type { FastifyReply, FastifyRequest } from "fastify";
import type { Static } from "typebox";
import { BPF_MAP_TYPE } from "../../abi/bpf.ts";
import { Btf } from "../../btf/btf.ts";
import type { FormedValue } from "../../codec/body.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { bytes } from "../../codec/scalars.ts";
import type { MapReference } from "../../engine/map_reference.ts";
import type { MapView } from "../../engine/views.ts";
import { asBuffer } from "../../log/row_transfer.ts";
import { factsOf, isOfMaps } from "../../maps/facts.ts";
import { isRefusal } from "../../maps/refusal.ts";
import { Misfit } from "../../typed/misfit.ts";
import { TypedMap } from "../../typed/typed_map.ts";
import type { FdParams, MapParams } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import type { ElementPrinter } from "../server/bulk.ts";
import type { CommandOrigin } from "../server/commands.ts";
import { Problem } from "../server/problems.ts";
import { type Asked, type StateParts, stateOf } from "./as_of.ts";
import { askFds, askMap, askOwnSession, askTypes } from "./lookups.ts";
import { readReference } from "./targets.ts";

/** The parameter `as` of all routes that answer keys and values. */
export const as = Type.Optional(
  Type.Enum(["typed", "formatted"], {
    type: "string",
    description:
      "Shows keys and values in this form, too, by the types of the map's BTF. `typed`: JSON that a body takes back. " +
      "`formatted`: as `bpftool -j map dump` prints it. With `typed` a key in the path is typed, as well: a bare " +
      "scalar or prefix, or JSON.",
  }),
);

export type FormName = "typed" | "formatted";

/** The forms of one map. */
export interface MapForms {
  readonly id: number;
  readonly as: FormName;
  readonly map: TypedMap;
}

/** The types of maps that were asked for last. A map's types never change, and no two maps have one id. */
export class KnownTypes {
  readonly #maps = new Map<number, { readonly types: TypedMap; readonly bytes: number }>();
  #bytes = 0;

  get(map: number): TypedMap | undefined {
    const known = this.#maps.get(map);
    if (known === undefined) return undefined;
    this.#maps.delete(map);
    this.#maps.set(map, known);
    return known.types;
  }

  /** `bytes`: of the BTF. */
  add(map: number, types: TypedMap, bytes: number): TypedMap {
    this.#maps.set(map, { types, bytes });
    this.#bytes += bytes;
    for (const [oldest, { bytes: its }] of this.#maps) {
      if (this.#bytes <= KNOWN_BYTES || oldest === map) break;
      this.#maps.delete(oldest);
      this.#bytes -= its;
    }
    return types;
  }
}

/** A caller who may only write must know the types, too. */
const SCOPES = ["read", "write"] as const;
/**
 * The BTF of maps whose types are kept. BTF of clang's has some ten kilobytes; compiled types may take a hundred times as
 * much memory.
 */
const KNOWN_BYTES = 1024 * 1024;
/** Parsing BTF, and making the text of one element, hold the service's thread. */
const BTF_BYTES_MAX = 1024 * 1024;
const TEXT_MAX = 8 * 1024 * 1024;

export interface FormParts extends StateParts {
  readonly knownTypes: KnownTypes;
}

type FormRequest = FastifyRequest & {
  readonly query: { readonly at?: string; readonly as?: FormName };
  readonly params: Static<typeof FdParams> | Static<typeof MapParams>;
};

/** The forms that a request asks for; null: it asks for none. Throws the problem of a map that has no types. */
export async function formsOf(
  parts: FormParts,
  request: FormRequest,
  reply: FastifyReply,
  form: FormName | undefined,
): Promise<MapForms | null> {
  if (form === undefined) return null;
  const { params } = request;
  const state = stateOf(parts, request, reply);
  const [reference, shown] =
    "map" in params
      ? [readReference(params.map, "map"), params.map]
      : await ofDescriptor(state, params.session, params.fd, request.caller);
  const map = await askMap(state, reference, shown, SCOPES);
  const types = parts.knownTypes.get(map.id) ?? (await lookedUp(parts.knownTypes, state, map));
  if (types.textMax <= TEXT_MAX) return { id: map.id, as: form, map: types };
  throw new InvalidInput("as", `an element of map ${map.id} may take ${types.textMax} characters (limit ${TEXT_MAX})`);
}

async function ofDescriptor(
  state: Asked,
  session: number,
  fd: number,
  caller: string,
): Promise<readonly [MapReference, string]> {
  await askOwnSession(state, session, caller);
  const found = (await askFds(state, session)).find((one) => one.fd === fd);
  if (found === undefined) throw new Problem("EBADF", `fd ${fd} is not open in session ${session}`, { errno: "EBADF" });
  if (found.map === 0) throw new Problem("EINVAL", `fd ${fd} is no map's`, { errno: "EINVAL" });
  return [{ id: found.map }, `of fd ${fd}`];
}

async function lookedUp(known: KnownTypes, state: Asked, map: MapView): Promise<TypedMap> {
  const { btf } = await askTypes(state, { id: map.id }, String(map.id), SCOPES);
  const isTrie = map.type === BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE;
  const facts = {
    keySize: map.keySize,
    valueSize: map.valueSize,
    cpus: map.possibleCpus,
    isTrie,
    isIndexed: factsOf(map.type)?.ordered === true && !isTrie,
    holdsMaps: isOfMaps(map.type),
  };
  if (btf === null) {
    if (facts.holdsMaps) return known.add(map.id, new TypedMap(null, facts), 0);
    throw new InvalidInput(
      "as",
      `map ${map.id} has no types: create it with btf_fd, btf_key_type_id, btf_value_type_id`,
    );
  }
  const { keyTypeId, valueTypeId, data } = btf;
  if (data.length > BTF_BYTES_MAX)
    throw new InvalidInput("as", `the BTF of map ${map.id} has ${data.length} bytes (limit ${BTF_BYTES_MAX})`);
  const parsed = Btf.parse(asBuffer(data));
  if (isRefusal(parsed)) throw new InvalidInput("as", `the BTF of map ${map.id} cannot be read: ${parsed.detail}`);
  return known.add(map.id, new TypedMap({ btf: parsed, keyTypeId, valueTypeId }, facts), data.length);
}

/**
 * The origin of a write. A map that the path names is found once only, when its types are looked up: a typed value must not be
 * written to another one.
 */
export function onTypedMap(origin: CommandOrigin, forms: MapForms | null): CommandOrigin {
  return forms === null || origin.target.by === "fd" ? origin : { ...origin, target: { by: "id", id: forms.id } };
}

/** Throws if a command has run on another map: what the request names was replaced after its types were found. */
export function checkMap(forms: MapForms | null, map: number): void {
  if (forms !== null && forms.id !== map)
    throw new Problem(
      "busy",
      `the request names map ${map} now; when its types were looked up, it was map ${forms.id}`,
    );
}

/** The fields of an element's JSON that show it in a form, with a comma before each. */
export function formFields({ as, map }: MapForms, key: Buffer, value: Buffer): string {
  const text = as === "typed" ? map.typed(key, value) : map.formatted(key, value);
  return text instanceof Misfit ? `,"${as}":null,"untyped":${JSON.stringify(String(text))}` : `,"${as}":${text}`;
}

/** Prints elements with a form beside the hex. Keys and values lie end to end. */
export function elementPrinter(forms: MapForms): ElementPrinter {
  const most = Math.max(1, Math.floor(PIECE_LENGTH / forms.map.textMax));
  return function* ({ keys, values, count, more }, separator) {
    const [keyBytes, valueBytes] = [keys.length / count, values.length / count];
    for (let from = 0; from < count; from += most) {
      let text = "";
      for (let at = from; at < Math.min(count, from + most); at++) {
        const key = keys.subarray(at * keyBytes, (at + 1) * keyBytes);
        const value = values.subarray(at * valueBytes, (at + 1) * valueBytes);
        const fields = formFields(forms, key, value);
        text += `${at === 0 ? "" : separator}{"key":"${key.toString("hex")}","value":"${value.toString("hex")}"${more}${fields}}`;
      }
      yield text;
    }
  };
}

/** About the characters of a piece of text. */
const PIECE_LENGTH = 128 * 1024;

/** A key in a path. `forms` null: it is hex. */
export function readKey(forms: MapForms | null, text: string): Buffer {
  if (forms?.as !== "typed") return bytes(text, "key");
  const form = given(forms.map.key, "key");
  if (form === null) throw new InvalidInput("key", "this map's keys have no type: hex required, without as=typed");
  return fitting(form.fromText(text), "key");
}

/** The bytes of a value in one form or more, which must agree. */
export function bytesOf({ map }: MapForms, { value, typed, formatted }: FormedValue): Buffer {
  if (value !== undefined && typed === undefined && formatted === undefined) return value;
  const side = given(map.value, "value");
  if (side === null) throw new InvalidInput("value", "this map's values have no type: hex required");
  const forms = [
    ...(value === undefined ? [] : [value]),
    ...(typed === undefined ? [] : [fitting(side.fromTyped(typed), "value")]),
    ...(formatted === undefined ? [] : [fitting(side.fromFormatted(formatted), "value")]),
  ];
  const [first, ...others] = forms as [Buffer, ...Buffer[]];
  if (others.every((other) => other.equals(first))) return first;
  throw new InvalidInput("value", "the forms that were given are of different bytes");
}

function given<Form extends object>(form: Form | Misfit | null, where: string): Form | null {
  if (form instanceof Misfit) throw new InvalidInput(form.where || where, form.found);
  return form;
}

function fitting(made: Buffer | Misfit, where: string): Buffer {
  if (!(made instanceof Misfit)) return made;
  const { where: place, found } = made.inside(where);
  throw new InvalidInput(place, found);
}
