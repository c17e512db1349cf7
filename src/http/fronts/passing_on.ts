/**
 * Passes requests on to the service's thread. Each connection of a client has at most one to that thread, made at its
 * first request that is passed on and closed with it. If that thread closes it during a request, the client's is closed,
 * too. The server hands over one request of a connection at a time (`net/pipelines.ts`).
 */

import type { ClientRequest, IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { http } from "../../net/http.ts";
import { type ClientAddress, clientAddress } from "../server/client_address.ts";
import { Problem, SAFETY_HEADERS } from "../server/problems.ts";

/**
 * Headers that belong to a connection, and the announcement of trailers, are not passed on. Others are, also those that
 * `connection` names: the service's thread shall see what the client has sent. This thread has answered `expect`.
 */
const OF_CONNECTION: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "trailer",
  "upgrade",
  "expect",
]);

const PROBLEM_TYPE = "application/problem+json; charset=utf-8";

/** An agent for one client's connection. */
class OwnAgent extends http.Agent {
  readonly #client: Socket;
  readonly #open: () => Promise<number>;

  constructor(client: Socket, open: () => Promise<number>) {
    super({ keepAlive: true, maxSockets: 1 });
    this.#client = client;
    this.#open = open;
  }

  override createConnection(_options: unknown, made?: (error: Error | null, stream: Duplex) => void): undefined {
    this.#open().then(
      (fd) => {
        const connection = new Socket({ fd, readable: true, writable: true });
        // The agent does not close a connection that comes when its request has been given up.
        if (this.#client.destroyed) connection.destroy();
        else this.#client.once("close", () => connection.destroy());
        made?.(null, connection);
      },
      (error) => made?.(error, undefined as never),
    );
  }
}

/** How a client's connection reaches the service's thread. */
export interface PassingParts {
  /** Opens a connection to it: the descriptor of this end. */
  open(client: ClientAddress): Promise<number>;
  /** Closes the client's connection if it reads nothing of a response that has something to read. */
  watchReader(response: ServerResponse): void;
}

/** Passes the requests of one client's connection on. */
export class PassingOn {
  readonly #client: Socket;
  readonly #parts: PassingParts;
  #agent: OwnAgent | null = null;

  constructor(client: Socket, parts: PassingParts) {
    this.#client = client;
    this.#parts = parts;
  }

  pass(request: IncomingMessage, response: ServerResponse): void {
    let sent: ClientRequest;
    try {
      sent = http.request({
        agent: this.#ownAgent(),
        method: request.method,
        path: request.url,
        headers: headersToPass(request) as never,
        setDefaultHeaders: false,
      });
    } catch (error) {
      refuse(request, response, new Problem("invalid-input", (error as Error).message));
      return;
    }
    response.once("close", () => {
      if (!response.writableFinished) sent.destroy();
    });
    sent.on("response", (answer) => {
      this.#answer(response, answer);
      // Nothing more of a request is sent that was answered before its end: what is left is read and dropped.
      answer.once("end", () => {
        if (sent.writableEnded) return;
        request.unpipe(sent).resume();
        sent.destroy();
      });
    });
    sent.on("error", (error) => this.#failed(request, response, error));
    if (!hasBody(request)) {
      sent.end();
      return;
    }
    // The request may be answered before any of its body comes.
    sent.flushHeaders();
    request.pipe(sent);
  }

  #answer(response: ServerResponse, answer: IncomingMessage): void {
    const { statusCode = 0, statusMessage, rawHeaders, headers } = answer;
    const closes = headers.connection === "close";
    const lines = withoutOwn(rawHeaders);
    response.writeHead(statusCode, statusMessage, closes ? [...lines, "connection", "close"] : lines);
    // A stream's head is sent before there is anything to stream.
    if (headers["content-length"] === undefined) response.flushHeaders();
    answer.on("error", () => this.#client.destroy());
    // While the client reads nothing, it is not noticed here that the service's thread gives the answer up.
    this.#parts.watchReader(response);
    answer.pipe(response);
  }

  /** The service's thread has closed its end, as it would have closed the client's; or no connection could be made. */
  #failed(request: IncomingMessage, response: ServerResponse, error: Error): void {
    if (response.writableEnded) request.resume();
    else if (error instanceof NoConnection && !response.headersSent)
      refuse(request, response, new Problem("unavailable", error.message));
    else this.#client.destroy();
  }

  #ownAgent(): OwnAgent {
    if (this.#agent !== null) return this.#agent;
    const address = clientAddress(this.#client);
    this.#agent = new OwnAgent(this.#client, () =>
      this.#parts.open(address).catch((error: Error) => {
        throw new NoConnection(error.message);
      }),
    );
    return this.#agent;
  }
}

class NoConnection extends Error {}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["content-length"] !== undefined || headers["transfer-encoding"] !== undefined;
}

function headersToPass({ rawHeaders, headers }: IncomingMessage): string[] {
  const lines = [...withoutOwn(rawHeaders), "connection", "keep-alive"];
  if (headers["transfer-encoding"] !== undefined) lines.push("transfer-encoding", "chunked");
  return lines;
}

function withoutOwn(lines: readonly string[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at < lines.length; at += 2) {
    const [name, value] = [lines[at] as string, lines[at + 1] as string];
    if (!OF_CONNECTION.has(name.toLowerCase())) kept.push(name, value);
  }
  return kept;
}

function refuse(request: IncomingMessage, response: ServerResponse, problem: Problem): void {
  request.resume();
  response.writeHead(problem.status, { ...SAFETY_HEADERS, ...problem.headers, "content-type": PROBLEM_TYPE });
  response.end(problem.text());
}
