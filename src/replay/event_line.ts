import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { InvalidInput } from "../codec/invalid.ts";
import { readTimeUs } from "../codec/moments.ts";
import { bytes, isDeeperThan, shown, u64 } from "../codec/scalars.ts";
import type { EventRow } from "../log/event.ts";
import { checkFields } from "./event_fields.ts";

/** What an event has in a command's place that no command has. */
const UNKNOWN = -1;

/** Of lists and objects within each other, in `attr` and `out`: more than any command's have. */
const LEVELS = 32;

type Fields = Readonly<Record<string, unknown>>;

/** A line of an export read back: what eventJson in log/event_json.ts writes. Throws InvalidInput for anything else. */
export function readEventLine(line: string): EventRow {
  const event = parse(line);
  const key = event.key === null ? null : bytes(string(event, "key"), "key");
  const value = event.value === null ? null : bytes(string(event, "value"), "value");
  const flags = u64(event.flags, "flags");
  const cmd = readCmd(string(event, "cmd"));
  const [attr, out] = [object(event, "attr"), object(event, "out")];
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

function parse(line: string): Fields {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    throw new InvalidInput("event", `JSON is needed, found ${shown(line)}`);
  }
  if (typeof event !== "object" || event === null || Array.isArray(event))
    throw new InvalidInput("event", `an object is needed, found ${shown(event)}`);
  return event as Fields;
}

function integer(event: Fields, name: string, least: number): number {
  const value = event[name];
  if (Number.isSafeInteger(value) && (value as number) >= least) return value as number;
  throw new InvalidInput(name, `an integer from ${least} on is needed, found ${shown(value)}`);
}

function string(event: Fields, name: string): string {
  const value = event[name];
  if (typeof value === "string") return value;
  throw new InvalidInput(name, `a string is needed, found ${shown(value)}`);
}

function object(event: Fields, name: string): Fields | null {
  const value = event[name];
  if (value === null) return null;
  if (isDeeperThan(value, LEVELS)) throw new InvalidInput(name, `no event has more than ${LEVELS} levels there`);
  if (typeof value === "object" && !Array.isArray(value)) return value as Fields;
  throw new InvalidInput(name, `an object or null is needed, found ${shown(value)}`);
}

/** As the log's column has it: JSON's text. */
function textOf(fields: Fields | null): string | null {
  return fields === null ? null : JSON.stringify(fields);
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
