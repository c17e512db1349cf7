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

/** Reads an event back from its line. Throws where it is no JSON. */
export function readEventLine(line: string): EventRow {
  const columns = JSON.parse(line);
  const { key, value, flags } = columns;
  return {
    ...columns,
    key: bytes(key),
    value: bytes(value),
    flags: typeof flags === "string" ? BigInt(flags) : flags,
  };
}

function bytes(hex: string | null): Buffer | null {
  return hex === null ? null : Buffer.from(hex, "hex");
}
