import type { EventRow } from "../log/event.ts";

/**
 * An event as a line of a segment: a JSON object of the log's columns, by name and in their order, without loss.
 * Integers are numbers, and strings of digits if they are beyond 2^53; bytes are lower-case hex; texts (attr and out,
 * too) are strings.
 */
export function eventLine(row: EventRow): string {
  const { seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out } = row;
  const columns = {
    seq,
    time_us,
    session,
    caller,
    cmd,
    map,
    fd,
    key: key === null ? null : key.toString("hex"),
    value: value === null ? null : value.toString("hex"),
    flags: Number.isSafeInteger(Number(flags)) ? Number(flags) : String(flags),
    ret,
    errno,
    detail,
    attr,
    out,
  };
  return `${JSON.stringify(columns)}\n`;
}

/** Throws if the line is not JSON, or if a column is missing or has another type. */
export function readEventLine(line: string): EventRow {
  const { seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out } =
    JSON.parse(line);
  const integers = [seq, time_us, session, cmd, map, ret, errno];
  const texts = [detail, attr, out];
  if (!integers.every(Number.isSafeInteger) || !(fd === null || Number.isSafeInteger(fd)) || !isFlags(flags))
    throw new Error("an event has a number that is not an integer");
  if (typeof caller !== "string" || !texts.every(isText)) throw new Error("an event has a text that is not a string");
  return {
    seq,
    time_us,
    session,
    caller,
    cmd,
    map,
    fd,
    key: bytes(key),
    value: bytes(value),
    flags: typeof flags === "string" ? BigInt(flags) : flags,
    ret,
    errno,
    detail,
    attr,
    out,
  };
}

const INT64 = /^-?\d{1,19}$/;

function isFlags(found: unknown): boolean {
  return typeof found === "string" ? INT64.test(found) : Number.isSafeInteger(found);
}

function isText(found: unknown): boolean {
  return found === null || typeof found === "string";
}

/** Buffer.from gets strings only: from an object with a `length` it would allocate that many bytes. */
function bytes(hex: unknown): Buffer | null {
  if (hex === null) return null;
  const read = typeof hex === "string" ? Buffer.from(hex, "hex") : null;
  if (read === null || 2 * read.length !== (hex as string).length)
    throw new Error("an event has bytes that are not hex");
  return read;
}
