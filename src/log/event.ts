/**
 * Events, and their rows in the log. `rowEvent(eventRow(event))` is the event again, except for answers that were cut
 * and pages that are not kept.
 */

import { ERRNO } from "../abi/errno.ts";
import { type Command, cmdNumber, type ElementCommand, type Target } from "../syscall/command.ts";
import { commandFacts } from "../syscall/command_facts.ts";
import { done, type Out, type Outcome } from "../syscall/outcome.ts";
import { attrText, readCommand, targetOf } from "./attr.ts";
import { keptAnswer } from "./kept_answer.ts";

/** A command with its outcome and its place in the log. */
export interface Event {
  readonly seq: number;
  readonly command: Command;
  readonly outcome: Outcome;
}

/**
 * An event as the log's columns have it, in their order. Numbers are integers; `flags` has u64's 64 bits as an int64.
 */
export interface EventRow {
  readonly seq: number;
  readonly time_us: number;
  readonly session: number;
  readonly caller: string;
  readonly cmd: number;
  /** The id of the map that the command named; 0 if the command names no map, or none was found. */
  readonly map: number;
  /** The descriptor that the command named. A descriptor that it opened is in `ret`. */
  readonly fd: number | null;
  /**
   * The key that the caller gave. Of an answered batch lookup: the keys answered, cut as `keptAnswer` says; of
   * BPF_OBJ_GET_INFO_BY_FD: the BTF answered, cut likewise.
   */
  readonly key: Buffer | null;
  /**
   * The value that the caller gave; or the value, next key, values or info that was answered, cut as `keptAnswer` says.
   */
  readonly value: Buffer | null;
  readonly flags: bigint | number;
  readonly ret: number;
  readonly errno: number;
  /** The rule that chose the errno. */
  readonly detail: string | null;
  /** JSON: the parts of the command that have no column. */
  readonly attr: string | null;
  /** JSON: the parts of the outcome that have no column. */
  readonly out: string | null;
}

/** Fields that `attr` has beside the command's own, each only if there is a value for it. Replays send them again. */
interface Kept {
  /**
   * The caller's reference to the map (a pin, a name, an id that was not found), if the `map` column does not say it.
   */
  readonly map?: Target;
  /**
   * The size in bytes of an output buffer that the caller gave itself; the service's own has the right size and is not
   * kept.
   */
  readonly key_room?: number;
  readonly value_room?: number;
  /**
   * The info buffer that the caller of BPF_OBJ_GET_INFO_BY_FD gave, in hex. It is left out if the command answered a
   * map's info: `value` has that, and all that was an input is in it.
   */
  readonly info?: string;
  /** A key or value was refused for its length. bpf(2) itself sees pointers only, and cannot refuse that. */
  readonly exact?: true;
}

export function eventRow({ seq, command, outcome: answered }: Event): EventRow {
  const cmd = cmdNumber(command);
  const outcome = keptAnswer(cmd, answered);
  const target = targetOf(command);
  const answers = commandFacts(cmd)?.answers ?? null;
  const kept = answers !== "page";
  const given = command as { key?: Buffer | null; value?: Buffer | null; flags?: bigint };
  return {
    seq,
    time_us: command.timeUs,
    session: command.session,
    caller: command.caller,
    cmd,
    map: outcome.map,
    fd: target !== null && target.by === "fd" ? target.fd : null,
    key: kept ? (outcome.key ?? (answers === "elements" ? null : given.key) ?? null) : null,
    value: kept ? (outcome.value ?? (answers !== null ? null : given.value) ?? null) : null,
    flags: columnFlags(given.flags),
    ret: outcome.ret,
    errno: outcome.errno,
    detail: outcome.detail,
    attr: columnAttr(command, keptOf(command, target, outcome)),
    out: outcome.out === null ? null : JSON.stringify(outcome.out),
  };
}

/** Reads an event back from its row. Throws, naming the seq, if `eventRow` cannot have written the row. */
export function rowEvent(row: EventRow): Event {
  try {
    return readRow(row);
  } catch (error) {
    throw new Error(`reading event ${row.seq}: ${(error as Error).message}`, { cause: error });
  }
}

function readRow(row: EventRow): Event {
  const kept: Kept = row.attr === null ? {} : JSON.parse(row.attr);
  const answers = commandFacts(row.cmd)?.answers ?? null;
  // Beside its info, BPF_OBJ_GET_INFO_BY_FD answers BTF, in the place of a key.
  const answersKey = answers === "elements" || answers === "info";
  const answersValue = answers !== null;
  const command = readCommand({
    session: row.session,
    caller: row.caller,
    timeUs: row.time_us,
    cmd: row.cmd,
    target: row.fd !== null ? { by: "fd", fd: row.fd } : (kept.map ?? { by: "id", id: row.map }),
    key: answersKey ? room(kept.key_room) : row.key,
    value: answersValue ? (hexBytes(kept.info) ?? room(kept.value_room)) : row.value,
    flags: BigInt.asUintN(64, BigInt(row.flags)),
    exact: kept.exact ?? false,
    attr: row.attr,
  });
  const outcome: Outcome = {
    ret: row.ret,
    errno: row.errno,
    detail: row.detail,
    map: row.map,
    key: answersKey ? row.key : null,
    value: answersValue ? row.value : null,
    out: row.out === null ? null : (JSON.parse(row.out) as Out),
  };
  return { seq: row.seq, command, outcome };
}

/**
 * The event of a command on one element that succeeded, with no more than a replay needs: session, caller, time and
 * answer are empty.
 */
export function elementChange(
  seq: number,
  cmd: number,
  map: number,
  key: Buffer,
  value: Buffer,
  out: Out | null,
): Event {
  const target = { by: "id", id: map } as const;
  const command = {
    session: 0,
    caller: "",
    timeUs: 0,
    cmd: cmd as ElementCommand["cmd"],
    target,
    key,
    value,
    flags: 0n,
  };
  return { seq, command, outcome: done(map, null, out) };
}

function columnFlags(flags: bigint | undefined): bigint | number {
  if (flags === undefined) return 0;
  return flags <= 0xffff_ffffn ? Number(flags) : BigInt.asIntN(64, flags);
}

/** The `attr` column: the command's own text, with the fields of `kept` before it. */
function columnAttr(command: Command, kept: Kept | null): string | null {
  const text = attrText(command);
  if (kept === null) return text;
  const more = JSON.stringify(kept);
  return text === null ? more : `${more.slice(0, -1)},${text.slice(1)}`;
}

/** The fields that `attr` has beside the command's own; null for most commands, whose columns say everything. */
function keptOf(command: Command, target: Target | null, { map, errno, value }: Outcome): Kept | null {
  const given = command as { key?: Buffer | null; value?: Buffer | null; exact?: boolean };
  const byReference = target !== null && target.by !== "fd" && (target.by !== "id" || map === 0);
  const answers = commandFacts(command.cmd)?.answers ?? null;
  const keyRoom = answers === "elements" ? given.key : null;
  const isInfo = answers === "info";
  const valueRoom = answers !== null && !(isInfo && value !== null && map !== 0) ? given.value : null;
  const exact = given.exact === true && errno === ERRNO.EINVAL;
  if (!byReference && !exact && keyRoom == null && valueRoom == null) return null;
  return {
    ...(byReference && { map: target }),
    ...(keyRoom != null && { key_room: keyRoom.length }),
    ...(valueRoom != null && !isInfo && { value_room: valueRoom.length }),
    ...(valueRoom != null && isInfo && { info: valueRoom.toString("hex") }),
    ...(exact && { exact: true }),
  };
}

function room(bytes: number | undefined): Buffer | null {
  return bytes === undefined ? null : Buffer.alloc(bytes);
}

function hexBytes(hex: string | undefined): Buffer | null {
  return hex === undefined ? null : Buffer.from(hex, "hex");
}
