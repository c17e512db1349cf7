import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { InvalidInput } from "../codec/invalid.ts";
import { NotJson, parseInPieces } from "../codec/json_pieces.ts";
import { Large, LargeText } from "../codec/large.ts";
import { readTimeUs } from "../codec/moments.ts";
import { bytes, hasMoreThan, isDeeperThan, shown, u64 } from "../codec/scalars.ts";
import type { EventRow } from "../log/event.ts";
import { checkFields } from "./event_fields.ts";

/** What an event has in a command's place that no command has. */
const UNKNOWN = -1;

/** Of lists and objects within each other, in `attr` and `out`: more than any command's have. */
const LEVELS = 32;
/** Values in the lists and objects of a long line's event. */
const VALUES_MAX = 32_768;
/** Of what stands in an event: more is bytes in hex, or a list of elements. */
const LONG_BYTES = 64 * 1024;
/** Of a line that is no JSON: more than a message shows. */
const SHOWN_BYTES = 200;

type Fields = Readonly<Record<string, unknown>>;

/** A line of an export read back: what eventJson in log/event_json.ts writes. Throws InvalidInput for anything else. */
export function readEventLine(line: string): EventRow {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    throw noJson(line);
  }
  return readEvent(event);
}

/**
 * The same of a long line, of which a piece is read at a time; `pause` is awaited between two. What is longer than LONG_BYTES is taken
 * where an event has bytes. A list of elements that the command took along is passed over, since no replay asks for it.
 */
export async function readLongEventLine(line: Buffer, pause: () => Promise<void>): Promise<EventRow> {
  const options = { longBytes: LONG_BYTES, name: "event" };
  const event = await parseInPieces(line, pause, options).catch((fault: Error) => {
    throw fault instanceof NotJson ? noJson(line.toString("utf8", 0, SHOWN_BYTES)) : fault;
  });
  if (hasMoreThan(event, VALUES_MAX))
    throw new InvalidInput("event", `there are more than ${VALUES_MAX} values in its fields`);
  await pause();
  return readEvent(event);
}

function readEvent(given: unknown): EventRow {
  const event = fieldsOf(given);
  const key = hex(event, "key");
  const value = hex(event, "value");
  const flags = u64(event.flags, "flags");
  const cmd = readCmd(string(event, "cmd"));
  const [said, out] = [object(event, "attr"), object(event, "out")];
  // Exports of earlier releases have none.
  const attr = event.peer == null ? said : { ...said, peer: string(event, "peer") };
  checkFields(cmd, attr, out);
  return {
    seq: integer(event, "seq", 1),
    time_us: readTimeUs(string(event, "time"), "time"),
    session: event.session === null ? 0 : integer(event, "session", 1),
    caller: string(event, "caller"),
    cmd,
    map: event.map === null ? 0 : integer(event, "map", 1),
    fd: event.fd === null ? null : integer(event, "fd", -(2 ** 31)),
    key,
    value,
    flags: flags <= 0xffff_ffffn ? Number(flags) : BigInt.asIntN(64, flags),
    ret: integer(event, "ret", -1),
    errno: event.errno === null ? 0 : readErrno(string(event, "errno")),
    detail: event.detail === null ? null : string(event, "detail"),
    attr: textOf(attr),
    out: textOf(out),
  };
}

function noJson(line: string): InvalidInput {
  return new InvalidInput("event", `JSON is needed, found ${shown(line)}`);
}

function fieldsOf(event: unknown): Fields {
  if (isFields(event)) return event;
  throw new InvalidInput("event", `an object is needed, found ${shown(event)}`);
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Large);
}

function hex(event: Fields, name: string): Buffer | null {
  const value = event[name];
  if (value === null) return null;
  return value instanceof LargeText ? value.bytes(name) : bytes(string(event, name), name);
}

function integer(event: Fields, name: string, least: number): number {
  const value = event[name];
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
  throw new InvalidInput(name, `an integer from ${least} on is needed, found ${shown(value)}`);
}

function string(event: Fields, name: string): string {
  const value = event[name];
  if (typeof value === "string") return value;
  if (value instanceof LargeText) throw new InvalidInput(name, `it is longer than ${LONG_BYTES} bytes`);
  throw new InvalidInput(name, `a string is needed, found ${shown(value)}`);
}

function object(event: Fields, name: string): Fields | null {
  const value = event[name];
  if (value === null) return null;
  if (isDeeperThan(value, LEVELS)) throw new InvalidInput(name, `no event has more than ${LEVELS} levels there`);
  if (isFields(value)) return value;
  throw new InvalidInput(name, `an object or null is needed, found ${shown(value)}`);
}

/** As the log's column has it: JSON's text. Of what is large, bytes are kept. */
function textOf(fields: Fields | null): string | null {
  if (fields === null) return null;
  const kept = Object.entries(fields).flatMap(([name, value]) => {
    if (!(value instanceof Large)) return [[name, value] as const];
    return value instanceof LargeText && value.isHex ? [[name, value.bytes(name).toString("hex")] as const] : [];
  });
  return JSON.stringify(Object.fromEntries(kept));
}

function readCmd(name: string): number {
  if (Object.hasOwn(CMD, name)) return CMD[name as keyof typeof CMD];
  return /^-?\d{1,10}$/.test(name) ? Number(name) : UNKNOWN;
}

function readErrno(name: string): number {
  if (Object.hasOwn(ERRNO, name)) return ERRNO[name as keyof typeof ERRNO];
  const [, number] = /^E(\d{1,9})$/.exec(name) ?? [];
  if (number === undefined) throw new InvalidInput("errno", `an errno's name is needed, found ${shown(name)}`);
  return Number(number);
}
