/**
 * Translates recorded events into requests with the target's ids; described in docs/replay.md. Each command of CMD has
 * a case in `Translation.call`.
 */

import { CREATE_FIELDS, type FieldKind, namedAttr } from "../abi/attr.ts";
import { BPF_F } from "../abi/bpf.ts";
import { ERRNO } from "../abi/errno.ts";
import { FIRST_FD, ID_MAX } from "../abi/limits.ts";
import { CMD, cmdName, UNKNOWN_CMD } from "../abi/service.ts";
import type { Event } from "../log/event.ts";
import { mirrorShapeOf } from "../maps/facts.ts";
import type { CreateAttr } from "../maps/map.ts";
import { fdInValue, hasCgroupKeys, hasFdKeys } from "../maps/references.ts";
import {
  type BatchCommand,
  type Command,
  cmdNumber,
  type ElementCommand,
  type InfoCommand,
  type OpenCommand,
  type Target,
  type UnknownCommand,
} from "../syscall/command.ts";
import { WHOLE_MAP } from "../syscall/elements.ts";
import type { BatchCall, Body, Call, ElementCall, Implied, LeftOut, View } from "./call.ts";
import type { Id, Ids } from "./ids.ts";
import { asHex } from "./tokens.ts";

const MS = 1000;
/** A descriptor number that is never open: larger than any table. */
const NO_FD = 2 ** 31 - 1;
/** A session id that no mapledger has given. */
const UNKNOWN_SESSION = 999_999_999;
/** The size of an attr that is larger than every union bpf_attr: E2BIG. */
const SIZE_TOO_LARGE = 4097;
const FD_BYTES = 4;
/**
 * The most elements of a batch whose elements have no bytes; their number does not follow from the length of keys and
 * values.
 */
const EMPTY_ELEMENTS_MAX = 32_768;
/** bpf_check_uarg_tail_zero() refuses more than a page; 64 KiB is the largest page of any architecture. */
const INFO_BYTES_MAX = 64 * 1024;

/** Thrown if a command cannot be replayed; `callOf` catches it. */
class NotSent {
  readonly leftOut: string;

  constructor(leftOut: string) {
    this.leftOut = leftOut;
  }
}

/** The request that makes the target do what the event records. `ids` has the target's ids. */
export function callOf(event: Event, ids: Ids): Call | LeftOut | Implied {
  try {
    return new Translation(event, ids).call();
  } catch (thrown) {
    if (thrown instanceof NotSent) return { leftOut: thrown.leftOut };
    throw thrown;
  }
}

/** Translates one event. */
class Translation {
  readonly #event: Event;
  readonly #ids: Ids;

  constructor(event: Event, ids: Ids) {
    this.#event = event;
    this.#ids = ids;
  }

  call(): Call | Implied {
    const { command } = this.#event;
    // First, so that a command of an unknown session is left out for that reason.
    if (command.session !== 0) this.#session(command);
    if (command.cmd === UNKNOWN_CMD) return this.#door(command, unknownBody(command));
    if (command.cut !== undefined) throw new NotSent("it was refused, and its key and value were too large to be kept");
    switch (command.cmd) {
      case CMD.BPF_MAP_LOOKUP_ELEM:
      case CMD.BPF_MAP_UPDATE_ELEM:
      case CMD.BPF_MAP_DELETE_ELEM:
      case CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM:
      case CMD.BPF_MAP_GET_NEXT_KEY:
        return this.#byRoute(command)
          ? this.#element(command)
          : this.#door(command, { attr: this.#elementAttr(command) });
      case CMD.BPF_MAP_FREEZE:
        if (command.session === 0) return { kind: "freeze", view: this.#view(command), body: {} };
        return this.#door(command, { attr: this.#elementAttr(command) });
      case CMD.BPF_MAP_LOOKUP_BATCH:
      case CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH:
      case CMD.BPF_MAP_UPDATE_BATCH:
      case CMD.BPF_MAP_DELETE_BATCH:
        return this.#byRoute(command) ? this.#batch(command) : this.#door(command, { attr: this.#batchAttr(command) });
      case CMD.BPF_MAP_CREATE:
        return { kind: "create", session: this.#session(command), body: this.#createBody(command.attr) };
      case CMD.BPF_BTF_LOAD:
        return this.#door(command, { attr: withoutNulls({ btf: hex(command.value), btf_size: command.attr.btfSize }) });
      case CMD.BPF_OBJ_PIN: {
        const { pathname, fileFlags, pathFd } = command.attr;
        if (command.session === 0) return { kind: "pin", view: this.#view(command), body: { pathname } };
        const attr = { pathname, file_flags: fileFlags, path_fd: this.#namedFd(pathFd) };
        return this.#door(command, { attr: withoutNulls({ ...attr, bpf_fd: this.#targetFd(command.target) }) });
      }
      case CMD.BPF_OBJ_GET: {
        const { pathname, fileFlags, pathFd, bpfFd } = command.attr;
        const attr = { pathname, file_flags: fileFlags, path_fd: this.#namedFd(pathFd), bpf_fd: bpfFd };
        return this.#door(command, { attr: withoutNulls(attr) });
      }
      case CMD.BPF_MAP_GET_NEXT_ID: {
        const { startId, openFlags } = command.attr;
        const start = this.#ids.map(startId) ?? this.#ids.mapUpTo(startId);
        return this.#door(command, { attr: { start_id: start, open_flags: openFlags } });
      }
      case CMD.BPF_MAP_GET_FD_BY_ID: {
        const { mapId, openFlags } = command.attr;
        return this.#door(command, { attr: { map_id: this.#map(mapId), open_flags: openFlags } });
      }
      case CMD.BPF_BTF_GET_NEXT_ID: {
        const { startId, openFlags, fdByIdTokenFd } = command.attr;
        const start = this.#ids.btf(startId) ?? this.#ids.btfUpTo(startId);
        const attr = { start_id: startId > ID_MAX ? startId : start, open_flags: openFlags };
        return this.#door(command, { attr: { ...attr, fd_by_id_token_fd: this.#namedFd(fdByIdTokenFd) } });
      }
      case CMD.BPF_BTF_GET_FD_BY_ID: {
        const { btfId, openFlags, fdByIdTokenFd } = command.attr;
        const attr = { btf_id: this.#btf(btfId), open_flags: openFlags };
        return this.#door(command, { attr: { ...attr, fd_by_id_token_fd: this.#namedFd(fdByIdTokenFd) } });
      }
      case CMD.BPF_OBJ_GET_INFO_BY_FD:
        return this.#door(command, { attr: this.#infoAttr(command) });
      case CMD.SESSION_OPEN: {
        const { name, ttlMs, capabilities } = command.attr;
        const body = { name, ttl_seconds: Math.max(Math.ceil(ttlMs / MS), 1) };
        return { kind: "open session", body: capabilities === undefined ? body : { ...body, capabilities } };
      }
      case CMD.SESSION_RENEW: {
        const { ttlMs } = command.attr;
        const body = ttlMs === null ? {} : { ttl_seconds: Math.ceil(ttlMs / MS) };
        return { kind: "renew", session: this.#session(command), body };
      }
      case CMD.SESSION_END:
        return { kind: "end session", session: this.#session(command), body: {} };
      case CMD.CLOSE: {
        const session = this.#session(command);
        if (command.attr.reason !== "close") return { implied: true };
        return { kind: "close", session, fd: this.#routeFd(command.fd) };
      }
      case CMD.DUP:
        return { kind: "open", session: this.#session(command), body: { kind: "dup", fd: this.#routeFd(command.fd) } };
      case CMD.OPEN:
        return { kind: "open", session: this.#session(command), body: openBody(command.attr) };
      case CMD.UNLINK:
        return { kind: "unlink", body: { ...command.attr } };
      case CMD.MKDIR:
        return { kind: "mkdir", body: { pathname: command.attr.pathname } };
      case CMD.RMDIR:
        return { kind: "rmdir", body: { ...command.attr } };
      case CMD.MAP_ELEMENTS: {
        const { after, limit } = command.attr;
        return {
          kind: "elements",
          view: this.#view(command),
          after: hex(after),
          limit: limit === WHOLE_MAP ? null : limit,
        };
      }
      case CMD.MEMORY_READ:
        return { kind: "read memory", view: this.#view(command), value: null, ...command.attr };
      case CMD.MEMORY_WRITE:
        return { kind: "write memory", view: this.#view(command), value: command.value, ...command.attr };
      case CMD.OBJECT_END:
      case CMD.INTERFACES:
      case CMD.MIRROR_REFUSED:
      case CMD.MIRROR_RESYNC:
      case CMD.MIRROR_DRIFT:
      case CMD.MIRROR_POLICY:
      case CMD.MIRROR_FOUND:
      case CMD.MIRROR_FOLLOW:
      case CMD.MIRROR_DECIDE:
      case CMD.MIRROR_RECREATE:
      case CMD.MIRROR_TAKE_OVER:
      case CMD.MIRROR_RELEASE:
      case CMD.MIRROR_REPIN:
      case CMD.MIRROR_LEAVE:
      case CMD.MIRROR_FREED:
      case CMD.ARCHIVE:
      case CMD.ACCESS_REFUSED:
      case CMD.CALLERS:
      case CMD.CERTIFICATES:
      case CMD.CHECKPOINT:
      case CMD.TREE_BEGIN:
      case CMD.BACKUP_RESTORE:
      case CMD.KEY_ROTATE:
      case CMD.CLOCK_STEP:
      case CMD.FREE_DEFERRED:
        throw new NotSent("the service's own command, which no client sends");
    }
  }

  /**
   * Whether a command was sent by its resource route: the operator's commands cannot be sent by the syscall door, and
   * only routes refuse a key or value for its length.
   */
  #byRoute(command: Command & { exact?: boolean }): boolean {
    return command.session === 0 || command.exact === true;
  }

  #door(command: Command, body: Omit<Extract<Call, { kind: "bpf" }>["body"], "cmd"> & { cmd?: string | number }): Call {
    const cmd = body.cmd ?? cmdName(cmdNumber(command)) ?? cmdNumber(command);
    return { kind: "bpf", session: this.#session(command), body: { ...body, cmd } };
  }

  #session({ session }: Command): Id {
    switch (this.#event.outcome.out?.session) {
      case "unknown":
        return UNKNOWN_SESSION;
      case "foreign":
        throw new NotSent("its session was another caller's, and a replay has one caller");
      default:
        return this.#ids.session(session) ?? lost("its session was opened outside of the range");
    }
  }

  #view(command: Command & { target: Target }): View {
    const { target } = command;
    switch (target.by) {
      case "fd":
        return { session: this.#session(command), fd: this.#routeFd(target.fd) };
      case "id":
        return { map: this.#map(target.id) };
      case "name":
        this.#checkMap();
        return { map: `name:${target.name}` };
      case "pinned":
        this.#checkMap();
        return { map: `pinned:${target.pathname}` };
    }
  }

  #checkMap(): void {
    const { map } = this.#event.outcome;
    if (map !== 0 && this.#ids.map(map) === undefined) throw new NotSent("its map was created outside of the range");
  }

  /**
   * The map that a command names by id. If the id named no map when it was recorded, returns an id that no map of the
   * target has.
   */
  #map(id: number): Id {
    if (id === 0) return 0;
    const known = this.#ids.map(id);
    if (known !== undefined) return known;
    if (this.#event.outcome.map === 0) return this.#ids.absentId(id);
    return lost("its map was created outside of the range");
  }

  /** The BTF that a command names by id; if the id named none when it was recorded, an id that none of the target has. */
  #btf(id: number): Id {
    if (id === 0) return 0;
    const known = this.#ids.btf(id);
    if (known !== undefined) return known;
    const { errno } = this.#event.outcome;
    if (errno !== 0 && errno !== ERRNO.EMFILE) return this.#ids.absentId(id);
    return lost("its BTF was loaded outside of the range");
  }

  #targetFd(target: Target): Id {
    if (target.by !== "fd")
      throw new Error(`translating event ${this.#event.seq}: a session's target is by ${target.by}`);
    return this.#fd(target.fd);
  }

  /** The descriptor that a command is about. */
  #fd(fd: number): Id {
    const { command, outcome } = this.#event;
    const known = this.#ids.fd(command.session, fd);
    if (known !== undefined) return known;
    const nothing = outcome.map === 0 && outcome.errno !== 0;
    if (nothing && (this.#notOpen() || this.#ids.isWhole(command.session))) return this.#absent(fd);
    return lost(`its descriptor ${this.#missing()}`);
  }

  /** The descriptor in a route's path, where a negative number is not allowed. */
  #routeFd(fd: number): Id {
    return this.#fd(fd < 0 ? NO_FD : fd);
  }

  /** A descriptor that a field or an element names. */
  #namedFd(fd: number): Id {
    const { session } = this.#event.command;
    // 0 is a field left out.
    if (fd === 0) return 0;
    const known = this.#ids.fd(session, fd);
    if (known !== undefined) return known;
    if (fd < FIRST_FD || this.#notOpen() || this.#ids.isWhole(session)) return this.#absent(fd);
    return lost(`a descriptor that it names ${this.#missing()}`);
  }

  #missing(): string {
    const whole = this.#ids.isWhole(this.#event.command.session);
    return whole ? "is not open in the target" : "was opened outside of the range";
  }

  #absent(fd: number): number {
    return this.#ids.absentFd(this.#event.command.session, fd);
  }

  #notOpen(): boolean {
    const { errno } = this.#event.outcome;
    return errno === ERRNO.EBADF || errno === ERRNO.EBADFD;
  }

  #elementAttr(command: ElementCommand): Body {
    const asked = this.#event.outcome.out?.asked;
    const value = asked ?? this.#values(command.value, 1);
    return withoutNulls({
      map_fd: this.#targetFd(command.target),
      key: this.#keys(command.key, 1),
      [command.cmd === CMD.BPF_MAP_GET_NEXT_KEY ? "next_key" : "value"]: value,
      flags: u64Json(command.flags),
    });
  }

  #element(command: ElementCommand & Command): ElementCall {
    const kind = ELEMENT_KINDS[command.cmd as keyof typeof ELEMENT_KINDS];
    const value = this.#event.outcome.out?.asked ?? this.#values(command.value, 1);
    const flags = u64Json(command.flags);
    return { kind, view: this.#view(command), key: this.#keys(command.key, 1), value, flags };
  }

  #batchAttr(command: BatchCommand): Body {
    const { count, elemFlags, inBatch, outBatch } = command.attr;
    return withoutNulls({
      map_fd: this.#targetFd(command.target),
      in_batch: hex(inBatch),
      out_batch: hex(outBatch),
      keys: this.#keys(command.key, count),
      values: this.#values(command.value, count),
      count,
      elem_flags: u64Json(elemFlags),
      flags: u64Json(command.flags),
    });
  }

  #batch(command: BatchCommand & Command): BatchCall {
    const { count, elemFlags, inBatch } = command.attr;
    const view = this.#view(command);
    const name = BATCH_NAMES[command.cmd];
    const elem_flags = u64Json(elemFlags);
    if (name === "lookup" || name === "lookup_and_delete")
      return { kind: "batch", name, view, body: { count, in_batch: hex(inBatch), elem_flags } };
    const keys = pieces(command.key, count).map((key) => this.#keys(key, 1));
    if (name === "delete") return { kind: "batch", name, view, body: { keys, elem_flags } };
    const values = pieces(command.value, count).map((value) => this.#values(value, 1));
    const elements = keys.map((key, at) => ({ key, value: values[at] }));
    return { kind: "batch", name, view, body: { elements, elem_flags } };
  }

  #infoAttr(command: InfoCommand): Body {
    const { infoLen } = command.attr;
    const { value: answered, out, map } = this.#event.outcome;
    // The info of a map that was answered is the caller's buffer with the map's fields written over it. The target writes over
    // them again.
    const info = answered === null || out === null || map === 0 ? command.value : padded(answered, infoLen);
    return withoutNulls({ bpf_fd: this.#targetFd(command.target), info_len: infoLen, info: hex(info) });
  }

  #createBody(attr: CreateAttr): Body {
    return withoutNulls({
      ...namedAttr(CREATE_FIELDS, attr, (kind, value) => this.#said(kind, value)),
      mirror_shape: mirrorShapeOf({ type: attr.mapType, ...attr }),
    });
  }

  /** A field of a creation as the request has it. */
  #said(kind: FieldKind, value: unknown): unknown {
    switch (kind) {
      case "fd":
        return this.#namedFd(value as number);
      case "u64":
        return u64Json(value as bigint);
      case "char16":
        return nameText(value as Buffer);
      case "pointer":
        return hex(value as Buffer | null);
      case "u32":
      case "s32":
      case "path":
        return value;
    }
  }

  /** Keys end to end, with the target's descriptors and cgroup ids in place of the recorded ones. */
  #keys(keys: Buffer | null, count: number): string | null {
    const shape = this.#ids.shape(this.#event.outcome.map);
    if (keys === null || shape === undefined) return hex(keys);
    if (hasFdKeys(shape.type)) return this.#withFds(keys, shape.keySize, count, 0);
    return hasCgroupKeys(shape.type, shape.keySize) ? this.#withCgroup(keys) : hex(keys);
  }

  #values(values: Buffer | null, count: number): string | null {
    const shape = this.#ids.shape(this.#event.outcome.map);
    const at = shape === undefined ? null : fdInValue(shape.type, shape.valueSize);
    return values === null || at === null ? hex(values) : this.#withFds(values, shape?.valueSize as number, count, at);
  }

  #withFds(elements: Buffer, size: number, count: number, at: number): string {
    const bytes = Buffer.from(elements);
    const tokens: (readonly [at: number, token: string])[] = [];
    for (let start = at; start + FD_BYTES <= elements.length && start < size * count; start += size) {
      const id = this.#namedFd(elements.readInt32LE(start));
      if (typeof id === "string") tokens.push([start, id]);
      else bytes.writeInt32LE(id | 0, start);
    }
    let text = "";
    let end = 0;
    for (const [start, token] of tokens) {
      text += bytes.toString("hex", end, start) + asHex(token);
      end = start + FD_BYTES;
    }
    return text + bytes.toString("hex", end);
  }

  #withCgroup(key: Buffer): string {
    const digits = key.toString("hex");
    if (key.length < 8) return digits;
    const known = this.#ids.cgroup(String(key.readBigUInt64LE(0)));
    if (known === undefined) return digits;
    const id = Buffer.alloc(8);
    id.writeBigUInt64LE(BigInt(known));
    return id.toString("hex") + digits.slice(16);
  }
}

const ELEMENT_KINDS = {
  [CMD.BPF_MAP_LOOKUP_ELEM]: "lookup",
  [CMD.BPF_MAP_UPDATE_ELEM]: "update",
  [CMD.BPF_MAP_DELETE_ELEM]: "delete",
  [CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM]: "take",
  [CMD.BPF_MAP_GET_NEXT_KEY]: "next key",
} as const;

const BATCH_NAMES = {
  [CMD.BPF_MAP_LOOKUP_BATCH]: "lookup",
  [CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH]: "lookup_and_delete",
  [CMD.BPF_MAP_UPDATE_BATCH]: "update",
  [CMD.BPF_MAP_DELETE_BATCH]: "delete",
} as const;

/**
 * The body of an unknown command, or of one that was refused before its attr was read. The latter is refused again for
 * the same reason: an attr that is too long, or a byte after its end.
 */
function unknownBody({ number, name, fault }: UnknownCommand): { cmd: string | number; size?: number; tail?: string } {
  const said = /^-?\d+$/.test(name) ? Number(name) : name;
  if (fault === undefined) return { cmd: said };
  return fault.errno === "E2BIG"
    ? { cmd: cmdName(number) ?? said, size: SIZE_TOO_LARGE }
    : { cmd: cmdName(number) ?? said, tail: "01" };
}

function openBody(attr: OpenCommand["attr"]): Body {
  const { kind, path, pid, id, reuseport, progType, expectedAttachType, openFlags } = attr;
  const access = openFlags === BPF_F.BPF_F_RDONLY ? "r" : undefined;
  const all = { kind, [kind === "prog" ? "pinned" : "path"]: path, pid, id, reuseport, access };
  return withoutNulls({ ...all, prog_type: progType, expected_attach_type: expectedAttachType });
}

/** Splits elements that lie end to end into `count` pieces. */
function pieces(elements: Buffer | null, count: number): Buffer[] {
  if (elements === null || count > Math.max(elements.length, EMPTY_ELEMENTS_MAX))
    throw new NotSent("it has fewer elements than its count says");
  const size = count === 0 ? 0 : elements.length / count;
  return Array.from({ length: count }, (_, at) => elements.subarray(at * size, (at + 1) * size));
}

function padded(bytes: Buffer, length: number): Buffer {
  if (length > INFO_BYTES_MAX) throw new NotSent("its info_len is larger than any that a kernel accepts");
  return bytes.length >= length ? bytes : Buffer.concat([bytes, Buffer.alloc(length - bytes.length)]);
}

/** Up to its first NUL. */
function nameText(name: Buffer): string {
  const end = name.indexOf(0);
  return name.toString("latin1", 0, end === -1 ? name.length : end);
}

function hex(bytes: Buffer | null): string | null {
  return bytes === null ? null : bytes.toString("hex");
}

/** The fields that are not null. A field left out is zero, or the null pointer. */
function withoutNulls(fields: Body): Body {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null && value !== undefined));
}

function u64Json(number: bigint): number | string {
  return number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : String(number);
}

function lost(why: string): never {
  throw new NotSent(why);
}
