/**
 * The fast path: requests for single elements, by session and descriptor or by map id, which are most of the load. It
 * answers them before Fastify routes them, as `routes/elements.ts` would. Any unusual request (other Accept headers,
 * conditions, a body that is not JSON, a key that is not plain hex) goes to these routes. A test compares both.
 */

import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { CMD } from "../../abi/service.ts";
import type { Caller } from "../../access/caller.ts";
import type { Callers } from "../../access/callers.ts";
import { readHexBody } from "../../codec/body.ts";
import type { Settings } from "../../config.ts";
import { QueuedRequest } from "../../engine/client.ts";
import { type Digits, type ElementHead, elementHead, type ReplyFrames } from "../../engine/frames.ts";
import type { Reply, Request } from "../../engine/request.ts";
import type { Sender, Senders } from "../../net/senders.ts";
import type { ElementCommand } from "../../syscall/command.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { notDone, type RefusalParts } from "./access.ts";
import { type Identity, isOfOwnPage, isOwnHost } from "./auth.ts";
import { type Bulk, pipePieces, valueText } from "./bulk.ts";
import type { CommandOrigin } from "./commands.ts";
import { SMALL_BYTES } from "./flight.ts";
import type { EngineDoor } from "./ports.ts";
import { type Problem, refused, SAFETY_HEADERS } from "./problems.ts";
import { notJson, VALUE_EXAMPLE, whyNot, withoutMark } from "./wanted_bodies.ts";
import { type HeaderLines, httpDate, sendWhole, type WholeRequest } from "./whole_messages.ts";

const PATH =
  /^\/v1\/(?:sessions\/([1-9]\d{0,8})\/fds\/(0|[1-9]\d{0,8})|maps\/(0|[1-9]\d{0,8}))\/elements\/((?:[0-9a-f]{2}){1,512})$/;
const KEY_DIGITS_MAX = 1024;

const JSON_TYPE = "application/json";
const VALUE_SAMPLE = JSON.stringify(VALUE_EXAMPLE);
const ANSWER_TYPE = "application/json; charset=utf-8";
const NO_SNIFFING = Object.entries(SAFETY_HEADERS).flat();
const PROBLEM_TYPE = "application/problem+json; charset=utf-8";

/** A body that has only a value; a space may follow the colon. */
const BODY_START = Buffer.from('{"value":');
const BODY_END = Buffer.from('"}');
const QUOTE = '"'.charCodeAt(0);
const SPACE = " ".charCodeAt(0);

/** An origin of commands, and the beginning of their URLs. */
interface LastOrigin {
  readonly start: string;
  readonly origin: CommandOrigin & Requester;
  readonly head: ElementHead;
}

/** The facts that the header lines of a connection's request establish. */
interface HeaderFacts {
  readonly caller: Caller;
  readonly sender: Sender;
  /** The version of the callers among which the caller was found. */
  readonly version: number;
  readonly hasBody: boolean;
  readonly hasSmallJson: boolean;
  /** The origin of the last command that had these lines. */
  last: LastOrigin | null;
}

/** The sender of a request. */
interface Requester {
  readonly caller: string;
  readonly peer: string | undefined;
  readonly limits?: number;
}

/** A request for an element. */
interface Asked {
  readonly response: ServerResponse;
  readonly cmd: ElementCommand["cmd"];
  readonly by: LastOrigin;
  readonly sender: Sender;
  readonly key: Digits<string>;
}

export interface HotParts extends RefusalParts, Bulk {
  readonly callers: Pick<Callers, "limits" | "version">;
  readonly engine: Pick<EngineDoor, "run" | "runElement">;
  readonly identity: Identity;
  readonly senders: Senders;
  readonly ready: () => string | null;
  readonly settings: Pick<Settings, "bodyBytesMax">;
}

/** Returns true if it answers the request, false if Fastify must. */
export type HotPath = (request: WholeRequest, response: ServerResponse) => boolean;

/**
 * `problemOf` makes a problem of a thrown error, as for all other routes. `keepAliveSeconds`: how long a connection may
 * be idle.
 */
export function hotPath(parts: HotParts, problemOf: (error: unknown) => Problem, keepAliveSeconds: number): HotPath {
  const answers = new Answers(parts, problemOf, keepAliveSeconds);
  const origins = new Origins(parts);
  return (request, response) => {
    const { method } = request;
    if (method !== "GET" && method !== "PUT" && method !== "DELETE") return false;
    const facts = origins.factsOf(request);
    if (facts === null || parts.ready() !== null) return false;
    if (method === "PUT" ? !facts.hasSmallJson : facts.hasBody) return false;
    if (!facts.caller.scopes.has(method === "GET" ? "read" : "write")) return false;
    const by = origins.of(request, facts);
    if (by === null) return false;
    const { sender } = facts;
    const url = request.url as string;
    const key = { in: url, start: by.start.length, end: url.length };
    if (method === "PUT") {
      const asked = { response, cmd: CMD.BPF_MAP_UPDATE_ELEM, by, sender, key };
      request.takeBody((body) => update(parts, answers, asked, body));
    } else {
      const cmd = method === "GET" ? CMD.BPF_MAP_LOOKUP_ELEM : CMD.BPF_MAP_DELETE_ELEM;
      request.takeNothing();
      sender.began();
      run(parts, answers, { response, cmd, by, sender, key }, null);
    }
    return true;
  };
}

/** Runs a command. Returns false if the value has to be parsed first. */
function run(parts: HotParts, answers: Answers, asked: Asked, value: Digits<Uint8Array> | null): boolean {
  const { cmd, by, key } = asked;
  const waiting = new Answer(answers, asked);
  if (parts.engine.runElement?.(by.head, cmd, key, value, waiting) === true) return true;
  if (value !== null) return false;
  runRequest(parts, answers, asked, { value: null, flags: 0n });
  return true;
}

function update(parts: HotParts, answers: Answers, asked: Asked, body: Buffer): void {
  asked.sender.began();
  const digits = valueDigits(body);
  if (digits !== null && run(parts, answers, asked, digits)) return;
  let read: ReturnType<typeof readHexBody>;
  try {
    read = readHexBody(parse(body));
  } catch (error) {
    answers.fail(asked, error);
    return;
  }
  runRequest(parts, answers, asked, read);
}

function runRequest(
  { engine }: HotParts,
  answers: Answers,
  asked: Asked,
  value: { readonly value: Buffer | null; readonly flags: bigint },
): void {
  const { cmd, by, key, response } = asked;
  const request: Request = {
    cmd,
    ...by.origin,
    key: Buffer.from(key.in.slice(key.start), "hex"),
    ...value,
    exact: true,
  };
  engine.run(request, response.req.socket).then(
    (reply) => answers.reply(asked, reply),
    (error) => answers.fail(asked, error),
  );
}

/** The origins of commands. Most commands have the header lines and the map of the last command on their connection. */
class Origins {
  readonly #parts: HotParts;
  readonly #facts = new WeakMap<HeaderLines, HeaderFacts>();

  constructor(parts: HotParts) {
    this.#parts = parts;
  }

  /** null: the headers have anything unusual, or the sender is unknown. */
  factsOf(request: WholeRequest): HeaderFacts | null {
    const { identity, settings, callers, senders } = this.#parts;
    const { headerLines } = request;
    const { version } = callers;
    const known = this.#facts.get(headerLines);
    if (known !== undefined && known.version === version) return known;
    const { headers } = headerLines;
    if (!isUsual(headers) || !isOwnHost(request, identity)) return null;
    let caller: Caller;
    try {
      caller = identity.callerOf(request);
    } catch {
      return null;
    }
    const body = { hasBody: hasBody(headers), hasSmallJson: hasSmallJson(headers, settings.bodyBytesMax) };
    const facts = { caller, sender: senders.of(caller.name), version, ...body, last: null };
    this.#facts.set(headerLines, facts);
    return facts;
  }

  /** null: the request is not for an element. */
  of(request: WholeRequest, facts: HeaderFacts): LastOrigin | null {
    const url = request.url as string;
    const { last } = facts;
    if (last !== null && isElement(last.start, url)) return last;
    const found = PATH.exec(url);
    if (found === null) return null;
    facts.last = this.#new(request, facts.caller, found);
    return facts.last;
  }

  #new(request: IncomingMessage, { name, limits }: Caller, [url, session, fd, map, key]: RegExpExecArray): LastOrigin {
    const peer = this.#parts.identity.peerOf(request);
    const who = { caller: name, peer, ...(limits !== undefined && { limits: limits.id }) };
    const origin =
      session === undefined
        ? { session: 0, ...who, target: { by: "id" as const, id: Number(map) } }
        : { session: Number(session), ...who, target: { by: "fd" as const, fd: Number(fd) } };
    return { start: url.slice(0, -(key as string).length), origin, head: elementHead(origin) };
  }
}

/** Whether a URL is this beginning and a key. */
function isElement(start: string, url: string): boolean {
  const digits = url.length - start.length;
  if (digits <= 0 || digits > KEY_DIGITS_MAX || digits % 2 !== 0 || !url.startsWith(start)) return false;
  for (let at = start.length; at < url.length; at++) {
    const code = url.charCodeAt(at);
    if (!((code >= 0x30 && code <= 0x39) || (code >= 0x61 && code <= 0x66))) return false;
  }
  return true;
}

/** A request that waits for the engine. */
class Answer extends QueuedRequest {
  readonly #answers: Answers;
  readonly #asked: Asked;

  constructor(answers: Answers, asked: Asked) {
    super(asked.response.req.socket);
    this.#answers = answers;
    this.#asked = asked;
  }

  replied(frame: ReplyFrames): void {
    this.#answers.frame(this.#asked, frame);
  }

  failed(error: Error): void {
    this.#answers.fail(this.#asked, error);
  }
}

class Answers {
  readonly #parts: HotParts;
  readonly #problemOf: (error: unknown) => Problem;
  readonly #headEnd: string;

  constructor(parts: HotParts, problemOf: (error: unknown) => Problem, keepAliveSeconds: number) {
    this.#parts = parts;
    this.#problemOf = problemOf;
    this.#headEnd = `\r\nConnection: keep-alive\r\nKeep-Alive: timeout=${keepAliveSeconds}\r\n\r\n`;
  }

  frame(asked: Asked, frame: ReplyFrames): void {
    try {
      this.#frame(asked, frame);
    } finally {
      this.#end(asked);
    }
  }

  reply(asked: Asked, reply: Reply): void {
    try {
      this.#reply(asked, reply);
    } finally {
      this.#end(asked);
    }
  }

  fail(asked: Asked, error: unknown): void {
    try {
      this.#problem(asked.response, this.#problemOf(error));
    } finally {
      this.#end(asked);
    }
  }

  #end({ response, sender }: Asked): void {
    sender.answered(response.req.socket);
  }

  /** Answers with the seq, and for a lookup with the value, of the frame; any other reply is read in full first. */
  #frame(asked: Asked, frame: ReplyFrames): void {
    const isLookup = asked.cmd === CMD.BPF_MAP_LOOKUP_ELEM;
    const valueBytes = isLookup && frame.isDone ? frame.valueBytes : null;
    if (!frame.isDone || (valueBytes !== null && valueBytes > SMALL_BYTES)) this.#reply(asked, frame.reply());
    else this.#done(asked, frame.seq, valueBytes === null ? null : frame.valueDigits());
  }

  #reply(asked: Asked, reply: Reply): void {
    const { response, cmd, by } = asked;
    const { limits: id } = by.origin;
    if ("failure" in reply) {
      const limits = this.#parts.callers.limits.find((one) => one.id === id);
      this.#problem(response, notDone(this.#parts, { ...by.origin, limits }, response.req, reply));
      return;
    }
    const { outcome, seq } = reply;
    if (outcome.errno !== 0) {
      this.#problem(response, refused({ cmd }, outcome, seq), seq);
      return;
    }
    const value = cmd === CMD.BPF_MAP_LOOKUP_ELEM ? outcome.value : null;
    if (value !== null && value.length > SMALL_BYTES) this.#large(asked, outcome, seq);
    else this.#done(asked, seq, value === null ? null : value.toString("hex"));
  }

  #done({ response }: Asked, seq: number, value: string | null): void {
    const text = value === null ? `{"seq":${seq}}` : `{"value":"${value}","seq":${seq}}`;
    if (response.shouldKeepAlive && this.#parts.ready() === null)
      sendWhole(
        response,
        `${HEAD}${text.length}\r\nmapledger-seq: ${seq}\r\nDate: ${httpDate()}${this.#headEnd}`,
        text,
      );
    else this.#send(response, 200, ANSWER_TYPE, text, ["mapledger-seq", String(seq)]);
  }

  #large({ response, cmd, by }: Asked, outcome: Outcome, seq: number): void {
    try {
      this.#parts.flight.answered(response, { cmd, caller: by.origin.caller }, outcome);
    } catch (error) {
      this.#problem(response, this.#problemOf(error), seq);
      return;
    }
    response.writeHead(200, ["content-type", ANSWER_TYPE, ...NO_SNIFFING, "mapledger-seq", String(seq)]);
    pipePieces(this.#parts, response, valueText(outcome.value as Buffer, seq));
  }

  #problem(response: ServerResponse, problem: Problem, seq?: number): void {
    const headers = Object.entries(problem.headers).flat();
    if (seq !== undefined) headers.push("mapledger-seq", String(seq));
    this.#send(response, problem.status, PROBLEM_TYPE, problem.text(), headers);
  }

  #send(response: ServerResponse, status: number, type: string, text: string, more: readonly string[]): void {
    const headers = ["content-type", type, "content-length", String(Buffer.byteLength(text)), ...NO_SNIFFING, ...more];
    // While the service is stopping, a connection that is kept alive would delay it.
    if (this.#parts.ready() !== null) headers.push("connection", "close");
    response.writeHead(status, headers).end(text);
  }
}

const SAFETY = Object.entries(SAFETY_HEADERS)
  .map(([name, value]) => `${name}: ${value}\r\n`)
  .join("");
/** The head of a done command's answer, up to its length. */
const HEAD = `HTTP/1.1 200 OK\r\ncontent-type: ${ANSWER_TYPE}\r\n${SAFETY}content-length: `;

/** Whether the headers accept JSON, set no condition, and have nothing else that only the routes handle. */
function isUsual(headers: IncomingHttpHeaders): boolean {
  const { accept } = headers;
  return (
    (accept === undefined || accept === "*/*" || accept === JSON_TYPE) &&
    headers.origin === undefined &&
    isOfOwnPage(headers) &&
    headers["if-match"] === undefined &&
    headers["if-none-match"] === undefined &&
    headers.expect === undefined &&
    headers["transfer-encoding"] === undefined
  );
}

function hasBody(headers: IncomingHttpHeaders): boolean {
  return headers["content-length"] !== undefined && headers["content-length"] !== "0";
}

/** A larger body is counted in flight and parsed in pieces, which the routes do. */
function hasSmallJson(headers: IncomingHttpHeaders, bytesMax: number): boolean {
  return (
    headers["content-type"] === JSON_TYPE &&
    headers["content-encoding"] === undefined &&
    hasBody(headers) &&
    Number(headers["content-length"]) <= Math.min(bytesMax, SMALL_BYTES)
  );
}

/** The digits of a body's value; null: the body has another form. */
function valueDigits(body: Buffer): Digits<Uint8Array> | null {
  const start = BODY_START.length + (body[BODY_START.length] === SPACE ? 2 : 1);
  const end = body.length - BODY_END.length;
  if (end < start || body[start - 1] !== QUOTE || !has(body, 0, BODY_START) || !has(body, end, BODY_END)) return null;
  return { in: body, start, end };
}

function has(body: Buffer, at: number, bytes: Buffer): boolean {
  for (let byte = 0; byte < bytes.length; byte++) if (body[at + byte] !== bytes[byte]) return false;
  return true;
}

function parse(body: Buffer): unknown {
  const text = withoutMark(body.toString("utf8"));
  try {
    return JSON.parse(text);
  } catch {
    throw notJson(whyNot(text), VALUE_SAMPLE);
  }
}
