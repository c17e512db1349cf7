import type { EventRow } from "../log/event.ts";

/**
 * An event as a line of a segment: a JSON object with the log's columns by their names, in their order, each without loss.
 * Integers are numbers, beyond 2^53 digits in a string; bytes are hex in lower case; texts (attr and out, too) are strings.
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

/** Reads an event back from its line. Throws where it is none: a column is missing, or of another type. */
export function readEventLine(line: string): EventRow {
  const { seq, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out } =
    JSON.parse(line);
  const integers = [seq, time_us, session, cmd, map, ret, errno];
  const texts = [detail, attr, out];
  if (!integers.every(Number.isSafeInteger) || !(fd === null || Number.isSafeInteger(fd)) || !isFlags(flags))
    throw new Error("it has an event whose numbers are none");
  if (typeof caller !== "string" || !texts.every(isText)) throw new Error("it has an event whose texts are none");
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

/** Only of a text: of an object with a length Buffer.from makes as many bytes. */
function bytes(hex: unknown): Buffer | null {
  if (hex === null) return null;
  const read = typeof hex === "string" ? Buffer.from(hex, "hex") : null;
  if (read === null || 2 * read.length !== (hex as string).length)
    throw new Error("it has an event whose bytes are no hex");
  return read;
}
