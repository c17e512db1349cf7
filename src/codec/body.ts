/**
 * Reads bodies that no JSON schema validates: those with scalars as in the syscall door, and those of batches, where a
 * validator would take too long for each element. An error names the place of the wrong part: "elements[3].key".
 */

import { MIRROR_SHAPES, SERVICE_CMD } from "../abi/service.ts";
import { isLru } from "../maps/facts.ts";
import type { CreateAttr } from "../maps/map.ts";
import type { ObjectSpec, OpenKind } from "../syscall/command.ts";
import { type DoorRequest, readCreate } from "./door.ts";
import { InvalidInput } from "./invalid.ts";
import { Large, LargeText } from "./large.ts";
import { PackedPairs, PackedTexts } from "./packed.ts";
import { bytes, pointer, shown, u32, u64 } from "./scalars.ts";

type Fields = Readonly<Record<string, unknown>>;

const NONE: Fields = {};
const SERVICE_NUMBERS: ReadonlySet<unknown> = new Set(Object.values(SERVICE_CMD));

/** Reads the body of the syscall door; `readDoor` reads its `attr`. */
export function readDoorBody(body: unknown): DoorRequest {
  const { cmd, attr, size, tail } = readFields(body, ["cmd", "attr", "size", "tail"]);
  const fields = attr === undefined ? NONE : readPlainObject(attr, "attr");
  const raw = {
    ...(size === undefined ? {} : { size: u32(size, "size") }),
    ...(tail === undefined ? {} : { tail: readHex(tail, "tail") }),
  };
  if (typeof cmd === "string") return { cmd, attr: fields, ...raw };
  if (typeof cmd !== "number")
    throw new InvalidInput("cmd", `a command's name or number required, found ${shown(cmd)}`);
  const number = u32(cmd, "cmd") | 0;
  // The syscall door takes only the kernel's commands by number. The numbers of mapledger's own commands are unknown to
  // it.
  return { cmd: SERVICE_NUMBERS.has(number) ? String(number) : number, attr: fields, ...raw };
}

/** Reads the fields of BPF_MAP_CREATE; for an LRU map also `mirror_shape`. */
export function readCreateBody(body: unknown): CreateAttr {
  const fields = readPlainObject(body, "body");
  const attr = readCreate(fields, "", ["mirror_shape"]);
  const shape = fields.mirror_shape ?? null;
  if (shape === null) return attr;
  const mirrorShape = MIRROR_SHAPES.find((known) => known === shape);
  if (mirrorShape === undefined)
    throw new InvalidInput("mirror_shape", `${MIRROR_SHAPES.join(" or ")} required, found ${shown(shape)}`);
  if (!isLru(attr.mapType))
    throw new InvalidInput("mirror_shape", "only allowed for LRU maps, whose kernel maps can have another max_entries");
  return { ...attr, mirrorShape };
}

/** Reads a value with the flags of its update: the body of a push. */
export function readValueBody(body: unknown): { readonly value: Buffer; readonly flags: bigint } {
  const { value, flags } = readFields(body, ["value", "flags"]);
  return { value: readHex(value, "value"), flags: u64(flags, "flags") };
}

/** A value in one form or more, with the flags of its update. */
export interface FormedValue {
  readonly value?: Buffer;
  readonly typed?: unknown;
  readonly formatted?: unknown;
  readonly flags: bigint;
}

/** As readFormedBody, for a request without `?as=`: the value is hex. */
export function readHexBody(body: unknown): { readonly value: Buffer; readonly flags: bigint } {
  const { value, typed, formatted, flags } = readFormedBody(body);
  if (typed === undefined && formatted === undefined) return { value: value as Buffer, flags };
  throw new InvalidInput(
    "as",
    "required for a body with a form: as=typed if the key is typed, too, as=formatted if it is hex",
  );
}

/** Reads the body of a PUT. One of value, typed and formatted is there. */
export function readFormedBody(body: unknown): FormedValue {
  const { value, flags, typed, formatted } = readFields(body, ["value", "typed", "formatted", "flags"]);
  const isFormed = typed !== undefined || formatted !== undefined;
  return {
    ...((value !== undefined || !isFormed) && { value: readHex(value, "value") }),
    ...(typed !== undefined && { typed }),
    ...(formatted !== undefined && { formatted }),
    flags: u64(flags, "flags"),
  };
}

/** Reads the body of a peek: empty, or the value to look up in a bloom filter. */
export function readPeekBody(body: unknown): { readonly value: Buffer | null } {
  const { value } = readFields(body ?? NONE, ["value"]);
  return { value: value === undefined ? null : readHex(value, "value") };
}

/** The fields that describe the object to open, by its kind. */
const OBJECT_FIELDS: Readonly<Record<OpenKind, readonly (keyof ObjectBody)[]>> = {
  pipe: [],
  file: ["path"],
  dir: ["path"],
  tcp_idle: ["reuseport"],
  tcp_listen: ["reuseport"],
  tcp_connected: ["reuseport"],
  udp_idle: ["reuseport"],
  udp_bound: ["reuseport"],
  unix_stream: [],
  unix_dgram: [],
  xsk: [],
  pidfd: ["pid"],
  pidfd_self: [],
  pidfd_dead: [],
  cgroup: ["path"],
  perf_event: [],
  prog: ["id", "pinned", "prog_type", "expected_attach_type"],
};

export interface ObjectBody {
  readonly path?: string;
  readonly pid?: number;
  readonly id?: number;
  readonly pinned?: string;
  readonly reuseport?: boolean;
  readonly prog_type?: unknown;
  readonly expected_attach_type?: unknown;
}

/** Reads the fields that name or describe the object to open. */
export function readObject(kind: OpenKind, body: ObjectBody): ObjectSpec {
  for (const name in body)
    if (!OBJECT_FIELDS[kind].includes(name as keyof ObjectBody))
      throw new InvalidInput(name, `not allowed for kind ${kind}`);
  const { path, pid, id, pinned, reuseport } = body;
  for (const [name, given] of Object.entries({ path, pinned }))
    if (given !== undefined && (!given.startsWith("/") || given.includes("\0")))
      throw new InvalidInput(name, `an absolute path required, found ${shown(given)}`);
  if (kind === "pidfd" && pid === undefined) throw new InvalidInput("pid", "required");
  if (id !== undefined && pinned !== undefined) throw new InvalidInput("pinned", "not allowed together with id");
  const progType = u32(body.prog_type, "prog_type");
  const expectedAttachType = u32(body.expected_attach_type, "expected_attach_type");
  return {
    kind,
    ...(path === undefined && pinned === undefined ? {} : { path: (path ?? pinned) as string }),
    ...(pid === undefined ? {} : { pid }),
    ...(id === undefined ? {} : { id }),
    ...(reuseport === undefined ? {} : { reuseport }),
    ...(progType === 0 ? {} : { progType }),
    ...(expectedAttachType === 0 ? {} : { expectedAttachType }),
  };
}

export interface LookupBatchBody {
  readonly count: number;
  readonly inBatch: Buffer | null;
  readonly elemFlags: bigint;
}

export function readLookupBatchBody(body: unknown, countDefault: number): LookupBatchBody {
  const given = readFields(body ?? NONE, ["count", "in_batch", "elem_flags"]);
  return {
    count: given.count === undefined ? countDefault : u32(given.count, "count"),
    inBatch: pointer(given.in_batch, "in_batch"),
    elemFlags: u64(given.elem_flags, "elem_flags"),
  };
}

/** Keys and values end to end, as the kernel takes them. */
export interface UpdateBatchBody {
  readonly count: number;
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly elemFlags: bigint;
}

/**
 * Fields of pages and of batch lookups, which are ignored here: a client may send such a response back as an update.
 */
const OF_ANSWERS = ["count", "next", "seq", "out_batch", "end"];

export function readUpdateBatchBody(body: unknown): UpdateBatchBody {
  const { elements, elem_flags, count } = readFields(body, ["elements", "elem_flags", ...OF_ANSWERS]);
  const packed = elements instanceof PackedPairs ? elements : packPairs(readList(elements, "elements"));
  if (count !== undefined && count !== packed.count)
    throw new InvalidInput("count", `must be the number of elements, ${packed.count}, found ${shown(count)}`);
  return { ...packed.checked(), elemFlags: u64(elem_flags, "elem_flags") };
}

/** `ifPresent`: keys without an element are skipped. */
export function readDeleteBatchBody(body: unknown): Omit<UpdateBatchBody, "values"> & { readonly ifPresent: boolean } {
  const { keys, elem_flags, if_present = false } = readFields(body, ["keys", "elem_flags", "if_present"]);
  if (typeof if_present !== "boolean")
    throw new InvalidInput("if_present", `true or false required, found ${shown(if_present)}`);
  const packed = keys instanceof PackedTexts ? keys : packTexts(readList(keys, "keys"));
  return { ...packed.checked(), elemFlags: u64(elem_flags, "elem_flags"), ifPresent: if_present };
}

/** The lists of a body that are packed while they are read, by field name. */
export const PACKED_LISTS = {
  elements: (): PackedPairs => new PackedPairs(elementAt, elementFault),
  keys: (): PackedTexts => new PackedTexts("keys"),
} as const;

function elementAt(at: number): string {
  return `elements[${at}]`;
}

function packPairs(list: readonly unknown[]): PackedPairs {
  const packed = new PackedPairs(elementAt, elementFault, list.length);
  for (let at = 0; at < list.length; at++) packed.add(list[at]);
  return packed;
}

function packTexts(list: readonly unknown[]): PackedTexts {
  const packed = new PackedTexts("keys", list.length);
  for (let at = 0; at < list.length; at++) packed.add(list[at]);
  return packed;
}

/** The error of an element that is not an object with key and value in hex. */
export function elementFault(element: unknown, where: string): InvalidInput {
  try {
    if ((element as { shows?: unknown } | null)?.shows === "ids")
      return new InvalidInput(
        `${where}.shows`,
        "its value or key is an id, as answered by reads: an update takes a descriptor",
      );
    const { key, value } = readFields(element, ["key", "value"], where);
    readHex(key, `${where}.key`);
    readHex(value, `${where}.value`);
  } catch (fault) {
    return fault as InvalidInput;
  }
  return new InvalidInput(where, "an object with key and value required");
}

function readHex(value: unknown, where: string): Buffer {
  if (value instanceof LargeText) return value.bytes(where);
  if (typeof value !== "string")
    throw new InvalidInput(where, `a string of hex digits required, found ${shown(value)}`);
  return bytes(value, where);
}

function readList(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new InvalidInput(where, `a list required, found ${shown(value)}`);
  return value;
}

function readPlainObject(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Large)
    throw new InvalidInput(where, `an object required, found ${shown(value)}`);
  return value as Fields;
}

/** Reads an object, and refuses fields that are not in `known`. */
function readFields(value: unknown, known: readonly string[], where = ""): Fields {
  const fields = readPlainObject(value, where === "" ? "body" : where);
  for (const name in fields)
    if (!known.includes(name))
      throw new InvalidInput(
        where === "" ? name : `${where}.${name}`,
        `no such field; the fields are ${known.join(", ")}`,
      );
  return fields;
}
