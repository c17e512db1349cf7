/** Reads lines of exports, which may come from anybody: every field is checked. */

import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { InvalidInput } from "../codec/invalid.ts";
import { NotJson, parseInPieces } from "../codec/json_pieces.ts";
import { Large, LargeText } from "../codec/large.ts";
import { readTimeUs } from "../codec/moments.ts";
import { bytes, hasMoreThan, isDeeperThan, shown, u64 } from "../codec/scalars.ts";
import type { EventRow } from "../log/event.ts";
import { checkFields } from "./event_fields.ts";

/** The `cmd` of an event whose command has a name that is not known here. */
const UNKNOWN = -1;

/** The most levels of nesting in `attr` and `out`. mapledger writes fewer. */
const LEVELS = 32;
/** The most values in the lists and objects of a long line. */
const VALUES_MAX = 32_768;
/** A field longer than this must be a hex string or a list of elements. */
const LONG_BYTES = 64 * 1024;
/** The most bytes of a line that is not JSON in an error. */
const SHOWN_BYTES = 200;

type Fields = Readonly<Record<string, unknown>>;

/** Reads one line of an export, as `eventJson` in log/event_json.ts writes it. Throws InvalidInput. */
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
 * Reads a long line in pieces, and awaits `pause` between two pieces. Fields longer than LONG_BYTES are allowed only if
 * they are bytes in hex; lists of elements that a command deleted or evicted are skipped, because replays do not need
 * them.
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
  // Exports of earlier releases have no peer.
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
  return new InvalidInput("event", `JSON required, found ${shown(line)}`);
}

function fieldsOf(event: unknown): Fields {
  if (isFields(event)) return event;
  throw new InvalidInput("event", `an object required, found ${shown(event)}`);
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
  throw new InvalidInput(name, `an integer from ${least} on required, found ${shown(value)}`);
}

function string(event: Fields, name: string): string {
  const value = event[name];
  if (typeof value === "string") return value;
  if (value instanceof LargeText) throw new InvalidInput(name, `it is longer than ${LONG_BYTES} bytes`);
  throw new InvalidInput(name, `a string required, found ${shown(value)}`);
}

function object(event: Fields, name: string): Fields | null {
  const value = event[name];
  if (value === null) return null;
  if (isDeeperThan(value, LEVELS)) throw new InvalidInput(name, `no event has more than ${LEVELS} levels there`);
  if (isFields(value)) return value;
  throw new InvalidInput(name, `an object or null required, found ${shown(value)}`);
}

/** The JSON text of the log's column. Large hex strings are kept; large lists are dropped. */
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
  if (number === undefined) throw new InvalidInput("errno", `an errno's name required, found ${shown(name)}`);
  return Number(number);
}
