import { SERVICE_CMD } from "../abi/service.ts";
import { isLru, MIRROR_SHAPES } from "../maps/lru_shape.ts";
import type { CreateAttr } from "../maps/map.ts";
import type { ObjectSpec, OpenKind } from "../syscall/command.ts";
import { type DoorRequest, readCreate } from "./door.ts";
import { InvalidInput } from "./invalid.ts";
import { bytes, pointer, shown, u32, u64 } from "./scalars.ts";

/**
 * Bodies that are read by hand rather than by a schema: those that take scalars as the syscall door does, and those of
 * batches, where a validator's work per element would be felt. What is wrong is named by its place: "elements[3].key".
 */
type Fields = Readonly<Record<string, unknown>>;

const NONE: Fields = {};
const SERVICE_NUMBERS: ReadonlySet<unknown> = new Set(Object.values(SERVICE_CMD));

/** The body of the syscall door; what its `attr` holds is for readDoor to say. */
export function readDoorBody(body: unknown): DoorRequest {
  const { cmd, attr, size, tail } = readFields(body, ["cmd", "attr", "size", "tail"]);
  const fields = attr === undefined ? NONE : readPlainObject(attr, "attr");
  const raw = {
    ...(size === undefined ? {} : { size: u32(size, "size") }),
    ...(tail === undefined ? {} : { tail: readHex(tail, "tail") }),
  };
  if (typeof cmd === "string") return { cmd, attr: fields, ...raw };
  if (typeof cmd !== "number")
    throw new InvalidInput("cmd", `a command's name or number is needed, found ${shown(cmd)}`);
  const number = u32(cmd, "cmd") | 0;
  // To the kernel the numbers of mapledger's own commands mean nothing, and so they do here.
  return { cmd: SERVICE_NUMBERS.has(number) ? String(number) : number, attr: fields, ...raw };
}

/** BPF_MAP_CREATE's fields, and for an LRU map the shape of its kernel map. */
export function readCreateBody(body: unknown): CreateAttr {
  const fields = readPlainObject(body, "body");
  const attr = readCreate(fields, "", ["mirror_shape"]);
  const shape = fields.mirror_shape ?? null;
  if (shape === null) return attr;
  const mirrorShape = MIRROR_SHAPES.find((known) => known === shape);
  if (mirrorShape === undefined)
    throw new InvalidInput("mirror_shape", `${MIRROR_SHAPES.join(" or ")} is needed, found ${shown(shape)}`);
  if (!isLru(attr.mapType))
    throw new InvalidInput("mirror_shape", "it is for LRU maps alone: all other kernel maps are as asked for");
  return { ...attr, mirrorShape };
}

/** A value with the flags of its update: the body of a PUT and of a push. */
export function readValueBody(body: unknown): { readonly value: Buffer; readonly flags: bigint } {
  const { value, flags } = readFields(body, ["value", "flags"]);
  return { value: readHex(value, "value"), flags: u64(flags, "flags") };
}

/** A peek: nothing, or the value that a bloom filter is asked for. */
export function readPeekBody(body: unknown): { readonly value: Buffer | null } {
  const { value } = readFields(body ?? NONE, ["value"]);
  return { value: value === undefined ? null : readHex(value, "value") };
}

/** Fields that say more of an object that a descriptor is to be opened of, by its kind. */
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

/** What an object is named by, or made as. */
export function readObject(kind: OpenKind, body: ObjectBody): ObjectSpec {
  for (const name in body)
    if (!OBJECT_FIELDS[kind].includes(name as keyof ObjectBody)) throw new InvalidInput(name, `a ${kind} takes none`);
  const { path, pid, id, pinned, reuseport } = body;
  for (const [name, given] of Object.entries({ path, pinned }))
    if (given !== undefined && (!given.startsWith("/") || given.includes("\0")))
      throw new InvalidInput(name, `an absolute path is needed, found ${shown(given)}`);
  if (kind === "pidfd" && pid === undefined) throw new InvalidInput("pid", "it is missing");
  if (id !== undefined && pinned !== undefined) throw new InvalidInput("pinned", "id says already which program");
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

export function readUpdateBatchBody(body: unknown): UpdateBatchBody {
  const { elements, elem_flags } = readFields(body, ["elements", "elem_flags"]);
  const list = readList(elements, "elements");
  const keys: string[] = new Array(list.length);
  const values: string[] = new Array(list.length);
  for (let at = 0; at < list.length; at++) {
    const element = list[at] as { key?: unknown; value?: unknown } | null;
    const key = element?.key;
    const value = element?.value;
    if (typeof key !== "string" || typeof value !== "string" || !hasTwoFields(element as object))
      throw elementFault(element, `elements[${at}]`);
    keys[at] = key;
    values[at] = value;
  }
  return {
    count: list.length,
    keys: pack(keys, (at) => `elements[${at}].key`),
    values: pack(values, (at) => `elements[${at}].value`),
    elemFlags: u64(elem_flags, "elem_flags"),
  };
}

export function readDeleteBatchBody(body: unknown): Omit<UpdateBatchBody, "values"> {
  const { keys, elem_flags } = readFields(body, ["keys", "elem_flags"]);
  const list = readList(keys, "keys");
  for (let at = 0; at < list.length; at++) if (typeof list[at] !== "string") readHex(list[at], `keys[${at}]`);
  return {
    count: list.length,
    keys: pack(list as string[], (at) => `keys[${at}]`),
    elemFlags: u64(elem_flags, "elem_flags"),
  };
}

/** Decodes hex of equal lengths into one buffer. */
function pack(texts: readonly string[], where: (at: number) => string): Buffer {
  if (texts.length === 0) return Buffer.alloc(0);
  const size = bytes(texts[0] as string, where(0)).length;
  const packed = Buffer.allocUnsafeSlow(texts.length * size);
  for (let at = 0; at < texts.length; at++) {
    const text = texts[at] as string;
    const digits = text.charCodeAt(1) === 120 || text.charCodeAt(1) === 88 ? text.slice(2) : text;
    if (digits.length !== size * 2 || packed.write(digits, at * size, size, "hex") !== size)
      throw new InvalidInput(where(at), lengthFault(bytes(text, where(at)).length, size));
  }
  return packed;
}

function lengthFault(found: number, size: number): string {
  return `${found} bytes: the first of the request has ${size}, and all must be of one length`;
}

function hasTwoFields(element: object): boolean {
  let count = 0;
  for (const _ in element) count++;
  return count === 2;
}

function elementFault(element: unknown, where: string): InvalidInput {
  try {
    const { key, value } = readFields(element, ["key", "value"], where);
    readHex(key, `${where}.key`);
    readHex(value, `${where}.value`);
  } catch (fault) {
    return fault as InvalidInput;
  }
  return new InvalidInput(where, "an object of key and value is needed");
}

function readHex(value: unknown, where: string): Buffer {
  if (typeof value !== "string")
    throw new InvalidInput(where, `a string of hex digits is needed, found ${shown(value)}`);
  return bytes(value, where);
}

function readList(value: unknown, where: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new InvalidInput(where, `a list is needed, found ${shown(value)}`);
  return value;
}

function readPlainObject(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new InvalidInput(where, `an object is needed, found ${shown(value)}`);
  return value as Fields;
}

/** An object that has no other fields than these. */
function readFields(value: unknown, known: readonly string[], where = ""): Fields {
  const fields = readPlainObject(value, where === "" ? "body" : where);
  for (const name in fields)
    if (!known.includes(name))
      throw new InvalidInput(
        where === "" ? name : `${where}.${name}`,
        `there is no such field; there are ${known.join(", ")}`,
      );
  return fields;
}
