import { errnoName } from "../abi/errno.ts";
import { cmdName } from "../abi/service.ts";
import type { EventRow } from "./event.ts";

const MS = 1000;
const US = 1_000_000;

/**
 * An event in the API's words, as GET /v1/events answers it and a line of an export has it. `sessionPeer`: the peer of
 * an event that has none of its own, from its session; null: its session has none; left out: not looked up, and `peer`
 * is left out too.
 */
export function eventJson(row: EventRow, sessionPeer?: string | null): object {
  const { peer = sessionPeer, ...said } = row.attr === null ? {} : JSON.parse(row.attr);
  const attr = row.attr === null || Object.keys(said).length === 0 ? null : said;
  return {
    seq: row.seq,
    time: timeText(row.time_us),
    session: row.session === 0 ? null : row.session,
    caller: row.caller,
    peer,
    cmd: cmdName(row.cmd) ?? attr?.name ?? String(row.cmd),
    map: row.map === 0 ? null : row.map,
    fd: row.fd,
    key: row.key === null ? null : row.key.toString("hex"),
    value: row.value === null ? null : row.value.toString("hex"),
    flags: String(BigInt.asUintN(64, BigInt(row.flags))),
    ret: row.ret,
    errno: row.errno === 0 ? null : errnoName(row.errno),
    detail: row.detail,
    attr,
    out: row.out === null ? null : JSON.parse(row.out),
  };
}

/** The text of the last second that was asked for: consecutive events have the same one. */
let lastSeconds = Number.NaN;
let lastText = "";

/** RFC 3339 with microseconds: "2026-01-31T12:00:00.000001Z". */
export function timeText(timeUs: number): string {
  const seconds = Math.floor(timeUs / US);
  if (seconds !== lastSeconds) [lastSeconds, lastText] = [seconds, new Date(seconds * MS).toISOString().slice(0, -5)];
  return `${lastText}.${String(timeUs - seconds * US).padStart(6, "0")}Z`;
}
