/**
 * The fast path: requests for single elements, by session and descriptor or by map id, which are most of the load. It
 * answers them before Fastify routes them, as `routes/elements.ts` would. Any unusual request (other Accept headers,
 * conditions, a body that is not JSON, a key that is not plain hex) goes to these routes. A test compares both.
 */

import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import { CMD } from "../../abi/service.ts";
import type { Caller } from "../../access/caller.ts";
import type { Callers } from "../../access/callers.ts";
import type { Scope } from "../../access/scopes.ts";
import { readValueBody } from "../../codec/body.ts";
import type { Settings } from "../../config.ts";
import type { Reply, Request } from "../../engine/request.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { notDone, type RefusalParts } from "./access.ts";
import { type Identity, isOfOwnPage, isOwnHost } from "./auth.ts";
import { type Bulk, pipePieces, valueText } from "./bulk.ts";
import type { CommandOrigin } from "./commands.ts";
import { SMALL_BYTES } from "./flight.ts";
import type { EngineDoor } from "./ports.ts";
import { type Problem, refused, SAFETY_HEADERS } from "./problems.ts";
import { notJson, VALUE_EXAMPLE, whyNot, withoutMark } from "./wanted_bodies.ts";

const PATH =
  /^\/v1\/(?:sessions\/([1-9]\d{0,8})\/fds\/(0|[1-9]\d{0,8})|maps\/(0|[1-9]\d{0,8}))\/elements\/((?:[0-9a-f]{2}){1,512})$/;

const JSON_TYPE = "application/json";
const VALUE_SAMPLE = JSON.stringify(VALUE_EXAMPLE);
const ANSWER_TYPE = "application/json; charset=utf-8";
const NO_SNIFFING = Object.entries(SAFETY_HEADERS).flat();
const PROBLEM_TYPE = "application/problem+json; charset=utf-8";

/** The facts that a request's path and connection give. `limits`: the id of the caller's limits. */
type Element = CommandOrigin & { readonly key: Buffer; readonly peer: string | undefined; readonly limits?: number };

export interface HotParts extends RefusalParts, Bulk {
  readonly callers: Pick<Callers, "limits">;
  readonly engine: Pick<EngineDoor, "run">;
  readonly identity: Identity;
  readonly ready: () => string | null;
  readonly settings: Pick<Settings, "bodyBytesMax">;
}

/** Returns true if it answers the request, false if Fastify must. */
export type HotPath = (request: IncomingMessage, response: ServerResponse) => boolean;

/** `problemOf` makes a problem of a thrown error, as for all other routes. */
export function hotPath(parts: HotParts, problemOf: (error: unknown) => Problem): HotPath {
  const { callers, engine, identity } = parts;

  const send = (
    response: ServerResponse,
    status: number,
    type: string,
    text: string,
    more: readonly string[],
  ): void => {
    const headers = ["content-type", type, "content-length", String(Buffer.byteLength(text)), ...NO_SNIFFING, ...more];
    // While the service is stopping, a connection that is kept alive would delay it.
    if (parts.ready() !== null) headers.push("connection", "close");
    response.writeHead(status, headers).end(text);
  };

  const sendProblem = (response: ServerResponse, problem: Problem, seq?: number): void => {
    const headers = Object.entries(problem.headers).flat();
    if (seq !== undefined) headers.push("mapledger-seq", String(seq));
    send(response, problem.status, PROBLEM_TYPE, problem.text(), headers);
  };

  const run = (response: ServerResponse, command: Request): void => {
    engine.run(command, response.req.socket).then(
      (reply) => answer(response, command, reply),
      (error) => sendProblem(response, problemOf(error)),
    );
  };

  const answer = (response: ServerResponse, command: Request, reply: Reply): void => {
    if ("failure" in reply) {
      const limits = callers.limits.find(({ id }) => id === command.limits);
      sendProblem(response, notDone(parts, { ...command, limits }, response.req, reply));
      return;
    }
    const { outcome, seq } = reply;
    if (outcome.errno !== 0) {
      sendProblem(response, refused(command, outcome, seq), seq);
      return;
    }
    const value = command.cmd === CMD.BPF_MAP_LOOKUP_ELEM ? outcome.value : null;
    if (value !== null && value.length > SMALL_BYTES) {
      sendLarge(response, command, outcome, seq);
      return;
    }
    const text = value === null ? `{"seq":${seq}}` : `{"value":"${value.toString("hex")}","seq":${seq}}`;
    send(response, 200, ANSWER_TYPE, text, ["mapledger-seq", String(seq)]);
  };

  const sendLarge = (response: ServerResponse, command: Request, outcome: Outcome, seq: number): void => {
    try {
      parts.flight.answered(response, command, outcome);
    } catch (error) {
      sendProblem(response, problemOf(error), seq);
      return;
    }
    response.writeHead(200, ["content-type", ANSWER_TYPE, ...NO_SNIFFING, "mapledger-seq", String(seq)]);
    pipePieces(parts, response, valueText(outcome.value as Buffer, seq));
  };

  const update = (request: IncomingMessage, response: ServerResponse, element: Element): void => {
    readBody(request, (body) => {
      let command: Request;
      try {
        command = { cmd: CMD.BPF_MAP_UPDATE_ELEM, ...element, ...readValueBody(parse(body)), exact: true };
      } catch (error) {
        sendProblem(response, problemOf(error));
        return;
      }
      run(response, command);
    });
  };

  return (request, response) => {
    const { method, headers } = request;
    if (method !== "GET" && method !== "PUT" && method !== "DELETE") return false;
    const found = PATH.exec(request.url as string);
    if (found === null || !isUsual(headers) || !isOwnHost(request, identity) || parts.ready() !== null) return false;
    if (method === "PUT" ? !hasSmallJson(headers, parts.settings.bodyBytesMax) : hasBody(headers)) return false;
    const element = elementOf(found, request, parts, method === "GET" ? "read" : "write");
    if (element === null) return false;
    if (method === "PUT") update(request, response, element);
    else {
      const cmd = method === "GET" ? CMD.BPF_MAP_LOOKUP_ELEM : CMD.BPF_MAP_DELETE_ELEM;
      run(response, { cmd, ...element, value: null, flags: 0n, exact: true });
    }
    return true;
  };
}

function elementOf(
  found: RegExpExecArray,
  request: IncomingMessage,
  { identity }: Pick<HotParts, "identity">,
  scope: Scope,
): Element | null {
  const [, session, fd, map, hex] = found;
  let known: Caller;
  try {
    known = identity.callerOf(request);
  } catch {
    return null;
  }
  const { name: caller, scopes, limits } = known;
  if (!scopes.has(scope)) return null;
  const peer = identity.peerOf(request);
  const key = Buffer.from(hex as string, "hex");
  const element: Element =
    session === undefined
      ? { session: 0, caller, peer, target: { by: "id", id: Number(map) }, key }
      : { session: Number(session), caller, peer, target: { by: "fd", fd: Number(fd) }, key };
  return limits === undefined ? element : { ...element, limits: limits.id };
}

/** Whether no header asks for anything but JSON and no condition. */
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

/** Nearly all bodies arrive in one piece. If a body breaks off, there is nobody to answer. */
function readBody(request: IncomingMessage, done: (body: Buffer) => void): void {
  const pieces: Buffer[] = [];
  request.on("data", (piece: Buffer) => pieces.push(piece));
  request.on("end", () => done(pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces)));
  request.on("error", () => {});
}

function parse(body: Buffer): unknown {
  const text = withoutMark(body.toString("utf8"));
  try {
    return JSON.parse(text);
  } catch {
    throw notJson(whyNot(text), VALUE_SAMPLE);
  }
}
