/**
 * The form in which batches go between threads: frames end to end in one ArrayBuffer, which is transferred, not copied.
 *
 *     request   0 u32 length    4 i32 cmd      8 u32 session  12 i32 fd or u32 map id
 *              16 u64 flags    24 u32 key     28 u32 value    32 u32 text
 *              36 u8 target    37 u8 caller   38 u8 exact     39 u8 dropped
 *              40 u32 limits, 0 for none      44 u8 peer, 0 for none       45 u8 octets
 *              48 caller, peer, key, value, text (JSON)
 *     reply     0 u32 length    4 u8 kind      8 f64 seq      16 i32 ret      20 i32 errno    24 u32 map
 *              28 u32 key      32 u32 value   36 u32 text     40 key, value, text (JSON)
 *
 * `caller`, `peer`, `key`, `value` and `text` are lengths in bytes; ABSENT stands for null. Frames begin at multiples
 * of 8. `target` is an index of TARGETS, `kind` one of FAILURES, OUTCOME or LATER. For example, caller "ann" sets key
 * 50000000 to 2a000000 by fd 3 of session 1, BPF_MAP_UPDATE_ELEM (2); `.` is padding:
 *
 *      0 40000000 02000000 01000000 03000000    64 bytes, cmd 2, session 1, fd 3
 *     16 00000000 00000000 04000000 04000000    flags 0, a key of 4 bytes, a value of 4 bytes
 *     32 ffffffff 00030100 00000000 0000....    no text, target fd, caller of 3 bytes, exact, no limits, no peer
 *     48 616e6e50 0000002a 000000.. ........    "ann", key, value
 *
 * The value of a request with `octets` is not in its frame: it is an ArrayBuffer of its own, transferred beside the
 * frames, in their order.
 */

import { CMD } from "../abi/service.ts";
import { commandText, readCommand, targetOf } from "../log/attr.ts";
import { cmdNumber, type ElementCommand, type Target } from "../syscall/command.ts";
import type { Out } from "../syscall/outcome.ts";
import type { NotDone, Reply, Request } from "./request.ts";

const REQUEST_BYTES = 48;
const REPLY_BYTES = 40;
const ABSENT = 0xffffffff;
const FLAGS_NONE = 0n;

const TARGETS = ["fd", "id", "name", "pinned"] as const;
const NO_TARGET = 255;
const CALLER_BYTES_MAX = 255;
const PEER_BYTES_MAX = 255;

const FAILURES = [
  "disk full",
  "log failed",
  "state failed",
  "outcome unknown",
  "bug",
  "scope missing",
  "invalid body",
] as const satisfies readonly NotDone["failure"][];
const OUTCOME = 255;
/** The kind of a frame in place of a reply that comes later. A number stands in place of its seq. */
const LATER = 254;

type Mutable = { peer?: string; limits?: number; octets?: true };

/** Frames, and the bodies that are transferred beside them. */
export interface Frames {
  readonly frames: ArrayBuffer;
  readonly length: number;
  /** Absent: no request has octets. */
  readonly bodies?: readonly ArrayBuffer[];
}

/** The buffers to transfer. */
export function transferred({ frames, bodies = [] }: Frames): ArrayBuffer[] {
  return [frames, ...bodies];
}

/** The values of hex digits in lower case, by their codes. */
const DIGITS = new Uint8Array(256).fill(0xff);
for (let digit = 0; digit < 16; digit++) DIGITS[digit.toString(16).charCodeAt(0)] = digit;

/** Hex digits within a text or a body. */
export interface Digits<Of extends string | Uint8Array> {
  readonly in: Of;
  readonly start: number;
  readonly end: number;
}

/** The sender of commands on single elements, and the map that they name by fd or by id. */
type ElementOrigin = Pick<Request, "session" | "caller" | "peer" | "limits"> & { readonly target: Target };

/** The beginning of a frame that all commands on elements of one origin share. */
export type ElementHead = Buffer & { readonly kind: "head of an element command's frame" };

export function elementHead({ session, caller, peer, limits, target }: ElementOrigin): ElementHead {
  const writer = new FrameWriter();
  const origin = { session, caller, peer, target, ...(limits !== undefined && { limits }) };
  const nothing = Buffer.alloc(0);
  writer.request({ cmd: CMD.BPF_MAP_LOOKUP_ELEM, ...origin, key: nothing, value: null, flags: 0n, exact: true });
  const { frames } = writer.take();
  const bytes = REQUEST_BYTES + Buffer.byteLength(caller) + (peer ?? "").length;
  return Buffer.from(frames, 0, bytes) as ElementHead;
}

/** Writes frames into a buffer that grows. take() hands the buffer over. */
export class FrameWriter {
  #buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  #length = 0;
  #bodies: ArrayBuffer[] = [];
  #bodyBytes = 0;
  count = 0;

  get byteLength(): number {
    return this.#length + this.#bodyBytes;
  }

  /** Where the next frame begins. */
  get end(): number {
    return this.#length;
  }

  request(request: Request): void {
    const target = targetOf(request);
    const given = request as { key?: Buffer | null; value?: Buffer | null; flags?: bigint; exact?: boolean };
    const key = given.key ?? null;
    const value = given.value ?? null;
    const text = requestText(request, target);
    const callerBytes = Buffer.byteLength(request.caller);
    if (callerBytes > CALLER_BYTES_MAX) throw new Error(`framing a request: its caller has ${callerBytes} bytes`);
    const textBytes = text === null ? 0 : Buffer.byteLength(text);
    const { peer = "" } = request;
    if (peer.length > PEER_BYTES_MAX) throw new Error(`framing a request: its peer has ${peer.length} bytes`);
    const body = request.octets === true ? value : null;
    const framed = body === null ? value : null;
    const at = this.#reserve(REQUEST_BYTES + callerBytes + peer.length + lengthOf(key) + lengthOf(framed) + textBytes);
    const buffer = this.#buffer;
    buffer.writeInt32LE(cmdNumber(request), at + 4);
    buffer.writeUInt32LE(request.session, at + 8);
    buffer.writeInt32LE(numberOf(target), at + 12);
    buffer.writeBigUInt64LE(given.flags ?? FLAGS_NONE, at + 16);
    buffer.writeUInt32LE(key === null ? ABSENT : key.length, at + 24);
    buffer.writeUInt32LE(value === null ? ABSENT : value.length, at + 28);
    buffer.writeUInt32LE(text === null ? ABSENT : textBytes, at + 32);
    buffer[at + 36] = target === null ? NO_TARGET : TARGETS.indexOf(target.by);
    buffer[at + 37] = callerBytes;
    buffer[at + 38] = given.exact === true ? 1 : 0;
    buffer[at + 39] = 0;
    buffer.writeUInt32LE(request.limits ?? 0, at + 40);
    buffer[at + 44] = peer.length;
    buffer[at + 45] = body === null ? 0 : 1;
    let end = at + REQUEST_BYTES;
    end += buffer.write(request.caller, end);
    end += buffer.write(peer, end, "latin1");
    if (key !== null) end += key.copy(buffer, end);
    if (framed !== null) end += framed.copy(buffer, end);
    if (text !== null) buffer.write(text, end);
    if (body !== null) {
      this.#bodies.push(handedOver(body));
      this.#bodyBytes += body.length;
    }
    this.count++;
  }

  /**
   * Writes a command on one element, exact and without flags, whose key and value are given as digits. If these are not
   * whole bytes in lower-case hex, returns false and writes nothing.
   */
  element(
    head: ElementHead,
    cmd: ElementCommand["cmd"],
    key: Digits<string>,
    value: Digits<Uint8Array> | null,
  ): boolean {
    const keyBytes = (key.end - key.start) >> 1;
    const valueBytes = value === null ? 0 : (value.end - value.start) >> 1;
    const at = this.#reserve(head.length + keyBytes + valueBytes);
    const buffer = this.#buffer;
    const keyAt = at + head.length;
    if (!decode(key, buffer, keyAt) || (value !== null && !decodeBytes(value, buffer, keyAt + keyBytes))) {
      this.#length = at;
      return false;
    }
    buffer.set(head, at);
    buffer.writeUInt32LE(this.#length - at, at);
    buffer.writeInt32LE(cmd, at + 4);
    buffer.writeUInt32LE(keyBytes, at + 24);
    if (value !== null) buffer.writeUInt32LE(valueBytes, at + 28);
    this.count++;
    return true;
  }

  /** Marks the request that begins at `at` as dropped, because its caller is gone: it is not run. */
  drop(at: number): void {
    this.#buffer[at + 39] = 1;
    this.count--;
  }

  reply(reply: Reply): void {
    if ("failure" in reply) {
      const { failure, ...told } = reply;
      const text = JSON.stringify(told);
      const at = this.#reserve(REPLY_BYTES + Buffer.byteLength(text));
      this.#buffer[at + 4] = FAILURES.indexOf(failure);
      this.#buffer.writeUInt32LE(Buffer.byteLength(text), at + 36);
      this.#buffer.write(text, at + REPLY_BYTES);
      this.count++;
      return;
    }
    const { key, value, detail, out, ret, errno, map } = reply.outcome;
    const { given } = reply;
    const text =
      detail === null && out === null && given === undefined ? null : JSON.stringify([detail, out, given ?? null]);
    const textBytes = text === null ? 0 : Buffer.byteLength(text);
    const at = this.#reserve(REPLY_BYTES + lengthOf(key) + lengthOf(value) + textBytes);
    const buffer = this.#buffer;
    buffer[at + 4] = OUTCOME;
    buffer.writeDoubleLE(reply.seq, at + 8);
    buffer.writeInt32LE(ret, at + 16);
    buffer.writeInt32LE(errno, at + 20);
    buffer.writeUInt32LE(map, at + 24);
    buffer.writeUInt32LE(key === null ? ABSENT : key.length, at + 28);
    buffer.writeUInt32LE(value === null ? ABSENT : value.length, at + 32);
    buffer.writeUInt32LE(text === null ? ABSENT : textBytes, at + 36);
    let end = at + REPLY_BYTES;
    if (key !== null) end += key.copy(buffer, end);
    if (value !== null) end += value.copy(buffer, end);
    if (text !== null) buffer.write(text, end);
    this.count++;
  }

  /** Writes a number in place of a reply that comes later. */
  later(id: number): void {
    const at = this.#reserve(REPLY_BYTES);
    this.#buffer[at + 4] = LATER;
    this.#buffer.writeDoubleLE(id, at + 8);
    this.count++;
  }

  /** Returns the frames written so far, and begins a new buffer. */
  take(): Frames {
    const bodies = this.#bodies;
    const taken = { frames: this.#buffer.buffer as ArrayBuffer, length: this.#length };
    this.#buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES);
    this.#length = 0;
    this.#bodies = [];
    this.#bodyBytes = 0;
    this.count = 0;
    return bodies.length === 0 ? taken : { ...taken, bodies };
  }

  #reserve(bytes: number): number {
    const at = this.#length;
    const end = at + Math.ceil(bytes / 8) * 8;
    if (end > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(end)));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    this.#buffer.writeUInt32LE(end - at, at);
    this.#length = end;
    return at;
  }
}

const INITIAL_BYTES = 16 * 1024;

/** Most commands have no flags: a BigInt is made only for the others. */
function readFlags(buffer: Buffer, at: number): bigint {
  return (buffer.readUInt32LE(at) | buffer.readUInt32LE(at + 4)) === 0 ? FLAGS_NONE : buffer.readBigUInt64LE(at);
}

/** Reads texts, most of which are the same as the one before. */
class RepeatedText {
  readonly #encoding: "utf8" | "latin1";
  #bytes = Buffer.alloc(0);
  #text = "";

  constructor(encoding: "utf8" | "latin1") {
    this.#encoding = encoding;
  }

  read(buffer: Buffer, start: number, end: number): string {
    if (this.#isLast(buffer, start, end)) return this.#text;
    this.#bytes = Buffer.from(buffer.subarray(start, end));
    this.#text = buffer.toString(this.#encoding, start, end);
    return this.#text;
  }

  #isLast(buffer: Buffer, start: number, end: number): boolean {
    const bytes = this.#bytes;
    if (end - start !== bytes.length) return false;
    for (let at = 0; at < bytes.length; at++) if (buffer[start + at] !== bytes[at]) return false;
    return true;
  }
}

const CALLERS = new RepeatedText("utf8");
const PEERS = new RepeatedText("latin1");

/** The requests in a buffer, and the bodies beside it; keys and values are views into them. */
export function readRequests(frames: ArrayBuffer, length: number, bodies: readonly ArrayBuffer[] = []): Request[] {
  const buffer = Buffer.from(frames, 0, length);
  const requests: Request[] = [];
  let nextBody = 0;
  for (let at = 0; at < length; at += buffer.readUInt32LE(at)) {
    const body = buffer[at + 45] === 1 ? (bodies[nextBody++] as ArrayBuffer) : null;
    if (buffer[at + 39] === 1) continue;
    const callerEnd = at + REQUEST_BYTES + (buffer[at + 37] as number);
    const keyBytes = buffer.readUInt32LE(at + 24);
    const valueBytes = buffer.readUInt32LE(at + 28);
    const textBytes = buffer.readUInt32LE(at + 32);
    const peerEnd = callerEnd + (buffer[at + 44] as number);
    const keyEnd = peerEnd + present(keyBytes);
    const valueEnd = body === null ? keyEnd + present(valueBytes) : keyEnd;
    const framed = valueBytes === ABSENT ? null : buffer.subarray(keyEnd, valueEnd);
    const text = textBytes === ABSENT ? null : buffer.toString("utf8", valueEnd, valueEnd + textBytes);
    const request: Request = readCommand({
      session: buffer.readUInt32LE(at + 8),
      caller: CALLERS.read(buffer, at + REQUEST_BYTES, callerEnd),
      timeUs: 0,
      cmd: buffer.readInt32LE(at + 4),
      target: readTarget(buffer[at + 36] as number, buffer.readInt32LE(at + 12), text),
      key: keyBytes === ABSENT ? null : buffer.subarray(peerEnd, keyEnd),
      value: body === null ? framed : Buffer.from(body, 0, valueBytes),
      flags: readFlags(buffer, at + 16),
      exact: buffer[at + 38] === 1,
      attr: text,
    });
    const limits = buffer.readUInt32LE(at + 40);
    if (peerEnd > callerEnd) (request as Mutable).peer = PEERS.read(buffer, callerEnd, peerEnd);
    if (limits !== 0) (request as Mutable).limits = limits;
    if (body !== null) (request as Mutable).octets = true;
    requests.push(request);
  }
  return requests;
}

/** The replies in a buffer, one after the other; keys and values are views into it. */
export class ReplyFrames {
  readonly #buffer: Buffer;
  #at = 0;
  #next = 0;

  constructor(frames: ArrayBuffer, length: number) {
    this.#buffer = Buffer.from(frames, 0, length);
  }

  /** Goes to the next reply. Returns false if there is none. */
  next(): boolean {
    this.#at = this.#next;
    if (this.#at >= this.#buffer.length) return false;
    this.#next += this.#buffer.readUInt32LE(this.#at);
    return true;
  }

  /** The number by which the reply comes later; null: this is the reply. */
  get later(): number | null {
    return this.#buffer[this.#at + 4] === LATER ? this.seq : null;
  }

  /** Whether the command ran, and has no errno. */
  get isDone(): boolean {
    return this.#buffer[this.#at + 4] === OUTCOME && this.#buffer.readInt32LE(this.#at + 20) === 0;
  }

  /** The seq of a command that ran. */
  get seq(): number {
    return this.#buffer.readDoubleLE(this.#at + 8);
  }

  /** The length of the outcome's value; null: it has none. */
  get valueBytes(): number | null {
    const bytes = this.#buffer.readUInt32LE(this.#at + 32);
    return bytes === ABSENT ? null : bytes;
  }

  /** The outcome's value in hex. */
  valueDigits(): string {
    const start = this.#at + REPLY_BYTES + present(this.#buffer.readUInt32LE(this.#at + 28));
    return this.#buffer.toString("hex", start, start + present(this.#buffer.readUInt32LE(this.#at + 32)));
  }

  reply(): Reply {
    const buffer = this.#buffer;
    const at = this.#at;
    const kind = buffer[at + 4] as number;
    const textBytes = buffer.readUInt32LE(at + 36);
    if (kind !== OUTCOME) {
      const told = JSON.parse(buffer.toString("utf8", at + REPLY_BYTES, at + REPLY_BYTES + textBytes));
      return { failure: FAILURES[kind], ...told } as Reply;
    }
    const keyBytes = buffer.readUInt32LE(at + 28);
    const valueBytes = buffer.readUInt32LE(at + 32);
    const keyEnd = at + REPLY_BYTES + present(keyBytes);
    const valueEnd = keyEnd + present(valueBytes);
    const [detail, out, given] =
      textBytes === ABSENT ? NO_TEXT : (JSON.parse(buffer.toString("utf8", valueEnd, valueEnd + textBytes)) as Text);
    return {
      seq: this.seq,
      outcome: {
        ret: buffer.readInt32LE(at + 16),
        errno: buffer.readInt32LE(at + 20),
        detail,
        map: buffer.readUInt32LE(at + 24),
        key: keyBytes === ABSENT ? null : buffer.subarray(at + REPLY_BYTES, keyEnd),
        value: valueBytes === ABSENT ? null : buffer.subarray(keyEnd, valueEnd),
        out,
      },
      ...(given !== null && { given }),
    };
  }
}

/** The replies in a buffer that has none of kind LATER. */
export function readReplies(frames: ArrayBuffer, length: number): Reply[] {
  const read = new ReplyFrames(frames, length);
  const replies: Reply[] = [];
  while (read.next()) replies.push(read.reply());
  return replies;
}

type Text = [detail: string | null, out: Out | null, given: number | null];
const NO_TEXT: Text = [null, null, null];

/** The memory of a body. A body that is a small part of its memory is copied. */
function handedOver(body: Buffer): ArrayBuffer {
  const { buffer, byteOffset, length } = body;
  return byteOffset === 0 && 2 * length > buffer.byteLength ? (buffer as ArrayBuffer) : new Uint8Array(body).buffer;
}

/**
 * The attr as JSON. If the target is a name or a pathname, it is the first member, under the name "", which no field
 * has.
 */
function requestText(request: Request, target: Target | null): string | null {
  const text = commandText(request);
  if (target === null || target.by === "fd" || target.by === "id") return text;
  const reference = JSON.stringify({ "": target.by === "name" ? target.name : target.pathname });
  return text === null ? reference : `${reference.slice(0, -1)},${text.slice(1)}`;
}

function readTarget(kind: number, number: number, text: string | null): Target | null {
  switch (TARGETS[kind]) {
    case "fd":
      return { by: "fd", fd: number };
    case "id":
      return { by: "id", id: number >>> 0 };
    case "name":
      return { by: "name", name: JSON.parse(text as string)[""] };
    case "pinned":
      return { by: "pinned", pathname: JSON.parse(text as string)[""] };
    default:
      return null;
  }
}

function numberOf(target: Target | null): number {
  if (target === null) return 0;
  return target.by === "fd" ? target.fd : target.by === "id" ? target.id | 0 : 0;
}

function lengthOf(buffer: Buffer | null): number {
  return buffer === null ? 0 : buffer.length;
}

function present(bytes: number): number {
  return bytes === ABSENT ? 0 : bytes;
}

/** Decodes hex digits into a buffer. Returns false if they are not whole bytes in lower-case hex. */
function decode({ in: text, start, end }: Digits<string>, to: Uint8Array, at: number): boolean {
  let wrong = (end - start) & 1;
  for (let digit = start; digit < end; digit += 2)
    wrong |= putByte(to, at++, text.charCodeAt(digit), text.charCodeAt(digit + 1));
  return wrong === 0;
}

function decodeBytes({ in: bytes, start, end }: Digits<Uint8Array>, to: Uint8Array, at: number): boolean {
  let wrong = (end - start) & 1;
  for (let digit = start; digit < end; digit += 2)
    wrong |= putByte(to, at++, bytes[digit] as number, bytes[digit + 1] as number);
  return wrong === 0;
}

/** Puts a byte by the codes of its digits. Returns 0 if they are digits. */
function putByte(to: Uint8Array, at: number, high: number, low: number): number {
  const first = DIGITS[high & 0xff] as number;
  const second = DIGITS[low & 0xff] as number;
  to[at] = (first << 4) | second;
  return ((first | second) & 0xf0) | ((high | low) >> 8);
}
