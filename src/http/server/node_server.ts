/** Node's HTTP server below Fastify: tries the fast path first, and answers requests that Node's parser cannot read. */

import type { RequestListener, Server, ServerOptions, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import type { TlsOptions } from "node:tls";
import { http } from "../../net/http.ts";
import { inLine, responseOf } from "../../net/pipelines.ts";
import { contextOf, type Tls } from "./certificates.ts";
import { type HotParts, type HotPath, hotPath } from "./hot.ts";
import { problemOf } from "./problem_answers.ts";
import { Problem, SAFETY_HEADERS } from "./problems.ts";
import { WholeRequest } from "./whole_messages.ts";

/** The limit for request line and headers, with room for a key of 15,000 bytes in hex. */
export const HEADER_BYTES_MAX = 32 * 1024;

export interface ServerParts extends HotParts {
  /** null: the port has no TLS. */
  readonly tls: Tls | null;
  /** Set if the service is read-only. */
  readonly present?: unknown;
}

/** Idle connections are closed after this time: Fastify's default, longer than the usual time of load balancers. */
const KEEP_ALIVE_MS = 72_000;
export const KEEP_ALIVE_SECONDS = KEEP_ALIVE_MS / 1000;

/**
 * For connections by which an HTTP thread passes requests on (`fronts/`). That thread closes them, and has checked that
 * HTTP/1.1 requests have a Host.
 */
export const PASSED_ON = { keepAliveTimeout: 0, requireHostHeader: false } as const satisfies ServerOptions;

/** A server that answers by the fast path if it can (`hot.ts`), otherwise by `route`. */
export function serverOf(parts: ServerParts, route: RequestListener, more: ServerOptions = {}): Server {
  const hot = parts.present === undefined ? hotPath(parts, problemOf, KEEP_ALIVE_SECONDS) : () => false;
  const answer = (request: WholeRequest, response: ServerResponse): void => {
    request.unshare();
    route(request, response);
  };
  return nodeServer(parts.tls, hot, answer, more);
}

/** A server with the limits of all of the service's servers. Requests that `hot` does not answer go to `answer`. */
export function nodeServer(
  tls: Tls | null,
  hot: HotPath,
  answer: (request: WholeRequest, response: ServerResponse) => void,
  more: ServerOptions = {},
): Server {
  const options = {
    maxHeaderSize: HEADER_BYTES_MAX,
    keepAliveTimeout: KEEP_ALIVE_MS,
    IncomingMessage: WholeRequest,
    ...more,
  };
  const listener = inLine(hot, answer);
  const server =
    tls === null ? http.createServer(options, listener) : createTlsServer({ ...options, ...tlsOptions(tls) }, listener);
  return server.on("clientError", (error, socket) => answerUnreadable(error, socket as Socket));
}

/** With authorities, clients are asked for a certificate; a client without one may send a token. */
function tlsOptions(tls: Tls): TlsOptions {
  return { ...contextOf(tls), ...(tls.clientCa !== null && { requestCert: true, rejectUnauthorized: false }) };
}

/** Closes a connection when the requests that have come as a whole are answered. */
function closeBehindAnswers(socket: Socket): void {
  const first = responseOf(socket);
  if (first?.req.complete === true) first.once("close", () => closeBehindAnswers(socket));
  else socket.destroySoon();
}

/** Answers bytes that are not a valid request with a problem on the socket. */
function answerUnreadable(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  if (responseOf(socket)?.req.complete === true) {
    // The client would take the problem for the answer to a request before it.
    closeBehindAnswers(socket);
    return;
  }
  const problem =
    error.code === "HPE_HEADER_OVERFLOW"
      ? new Problem("header-too-large", `request line and headers have more than ${HEADER_BYTES_MAX} bytes`)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? new Problem("request-timeout", "the request was not complete")
        : new Problem("invalid-input", "the bytes are not an HTTP/1.1 request");
  const text = problem.text();
  const head = [
    `HTTP/1.1 ${problem.status} ${problem.name}`,
    "content-type: application/problem+json; charset=utf-8",
    `content-length: ${Buffer.byteLength(text)}`,
    ...Object.entries(SAFETY_HEADERS).map(([name, value]) => `${name}: ${value}`),
    "connection: close",
  ];
  if (socket.writable) socket.write(`${head.join("\r\n")}\r\n\r\n${text}`);
  socket.destroySoon();
}
