/**
 * Checks the `attr` and `out` of events before they are replayed: each field must have a type that a ledger writes. An
 * export may come from anybody, and its fields become requests and lines of scripts.
 */

import { CREATE_FIELDS, type FieldKind } from "../abi/attr.ts";
import { cmdName } from "../abi/service.ts";
import { InvalidInput } from "../codec/invalid.ts";
import { Large, LargeText } from "../codec/large.ts";
import { shown } from "../codec/scalars.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import type { Out } from "../syscall/outcome.ts";

type Fields = Readonly<Record<string, unknown>>;
type Check = (value: unknown) => boolean;

const SHA256_DIGITS = 64;
/** The largest output buffer: a string of its hex digits still is a JavaScript string. */
const ROOM_BYTES_MAX = 256 * 1024 * 1024;
const NO_HEX = /[^0-9a-f]/i;

const isInteger: Check = Number.isSafeInteger;
const isRoom: Check = (value) => isInteger(value) && (value as number) >= 0 && (value as number) <= ROOM_BYTES_MAX;
const isText: Check = (value) => typeof value === "string";
const isHex: Check = (value) =>
  typeof value === "string" ? value.length % 2 === 0 && !NO_HEX.test(value) : value instanceof LargeText && value.isHex;
const isDigits: Check = (value) => typeof value === "string" && /^\d{1,20}$/.test(value);
const isFlag: Check = (value) => typeof value === "boolean";
const isList =
  (is: Check): Check =>
  (value) =>
    Array.isArray(value) && value.every(is);
/** A pair of a map id, or a number, and a key. */
const isNumbered: Check = (value) =>
  Array.isArray(value) && value.length === 2 && isInteger(value[0]) && isHex(value[1]);

const INTEGER = { is: isInteger, needs: "an integer" };
const ROOM = { is: isRoom, needs: `an integer from 0 to ${ROOM_BYTES_MAX}` };
const TEXT = { is: isText, needs: "a string" };
const BYTES = { is: isHex, needs: "a string of hex digits" };
const DIGITS = { is: isDigits, needs: "a string of decimal digits" };
const FLAG = { is: isFlag, needs: "true or false" };
const INTEGERS = { is: isList(isInteger), needs: "a list of integers" };
const NUMBERED = { is: isList(isNumbered), needs: "a list of pairs of an integer and hex digits" };

/** The length and SHA-256 of an answer that was cut. */
const isDigest: Check = (value) =>
  isObject(value) && isInteger(value.bytes) && isHex(value.sha256) && (value.sha256 as string).length === SHA256_DIGITS;
const isAnswer: Check = (value) =>
  isObject(value) && [value.key, value.value].every((digest) => digest === undefined || isDigest(digest));
const ANSWER = { is: isAnswer, needs: "bytes and sha256 of a key or a value" };

const isDeferred: Check = (value) =>
  isObject(value) &&
  [value.maps, value.objects, value.interfaces].every((ids) => ids === undefined || isList(isInteger)(ids));
const DEFERRED = { is: isDeferred, needs: "ids of maps or of objects" };

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

type Row = { readonly is: Check; readonly needs: string };

const BY_KIND: Readonly<Record<FieldKind, Row>> = {
  u32: INTEGER,
  s32: INTEGER,
  u64: DIGITS,
  fd: INTEGER,
  char16: TEXT,
  pointer: BYTES,
  path: TEXT,
};

/** The fields of an event's attr: those that `attrText` in log/attr.ts writes, and those of `Kept` in log/event.ts. */
const ATTR: Readonly<Record<string, Row>> = {
  ...Object.fromEntries(CREATE_FIELDS.map(({ name, kind }) => [name, BY_KIND[kind]])),
  count: INTEGER,
  if_present: INTEGER,
  elem_flags: DIGITS,
  in_batch: BYTES,
  out_batch: BYTES,
  pathname: TEXT,
  file_flags: INTEGER,
  path_fd: INTEGER,
  bpf_fd: INTEGER,
  start_id: INTEGER,
  btf_id: INTEGER,
  fd_by_id_token_fd: INTEGER,
  open_flags: INTEGER,
  map_id: INTEGER,
  info_len: INTEGER,
  info: BYTES,
  name: TEXT,
  ttl_ms: INTEGER,
  capabilities: { is: isList(isText), needs: "a list of strings" },
  reason: TEXT,
  kind: TEXT,
  path: TEXT,
  pid: INTEGER,
  id: INTEGER,
  reuseport: FLAG,
  prog_type: INTEGER,
  expected_attach_type: INTEGER,
  btf_size: INTEGER,
  offset: INTEGER,
  length: INTEGER,
  after: BYTES,
  limit: INTEGER,
  key_room: ROOM,
  value_room: ROOM,
  exact: FLAG,
};

/** The fields of an event's out. */
const OUT = {
  count: INTEGER,
  absent: INTEGERS,
  out_batch: BYTES,
  next_id: INTEGER,
  info_len: INTEGER,
  hash: BYTES,
  name: TEXT,
  btf_id: INTEGER,
  session_id: INTEGER,
  map_id: INTEGER,
  taken: FLAG,
  more: FLAG,
  ids: FLAG,
  pathname: TEXT,
  freed: INTEGERS,
  deferred: DEFERRED,
  memory: INTEGER,
  object: INTEGER,
  stored_keys: BYTES,
  stored_values: BYTES,
  shown_values: BYTES,
  emptied: FLAG,
  unchanged: FLAG,
  gone: NUMBERED,
  evicted: NUMBERED,
  known_as: NUMBERED,
  asked: BYTES,
  quota: TEXT,
  session: TEXT,
  answer: ANSWER,
} as const satisfies Record<keyof Out, Row>;

/** A reference to a map, in `attr.map`. */
const REFERENCE: Readonly<Record<string, Row>> = { by: TEXT, id: INTEGER, name: TEXT, pathname: TEXT, fd: INTEGER };

/**
 * Checks the types of attr and out of a command that will be sent. An export may have been written by anybody, and
 * these fields become parts of requests and of scripts. Throws InvalidInput.
 */
export function checkFields(cmd: number, attr: Fields | null, out: Fields | null): void {
  if (!isSent(cmd)) return;
  check("attr", attr ?? {}, ATTR);
  const reference = attr?.map ?? {};
  if (typeof reference !== "object" || reference instanceof Large)
    throw new InvalidInput("attr.map", `an object required, found ${shown(reference)}`);
  check("attr.map", reference as Fields, REFERENCE);
  check("out", out ?? {}, OUT);
}

/**
 * Whether a replay sends the command, so that its fields must have the forms above. Events that the service makes by
 * itself, and orders to the mirror, are not sent. Commands of bpf(2) that are not on maps are sent, and refused.
 */
function isSent(cmd: number): boolean {
  return commandFacts(cmd)?.sent ?? cmdName(cmd) !== undefined;
}

function check(where: string, fields: Fields, rows: Readonly<Record<string, Row>>): void {
  for (const [name, value] of Object.entries(fields)) {
    const row = Object.hasOwn(rows, name) ? rows[name] : undefined;
    // null: the null pointer, or a field that was left out.
    if (row === undefined || value === null || row.is(value)) continue;
    // Lists of deleted or evicted elements are not replayed, so they may be of any length.
    if (row === NUMBERED && value instanceof Large) continue;
    const found = value instanceof Large ? `${shown(value)}, which is too long` : shown(value);
    throw new InvalidInput(`${where}.${name}`, `${row.needs} required, found ${found}`);
  }
}
