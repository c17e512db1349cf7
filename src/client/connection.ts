/**
 * One connection to another mapledger, for a replay. Each request starts at most once. If a connection breaks, undici by
 * itself sends the unanswered requests again; therefore no request starts after a break, and the replay ends with
 * TargetFailed. For example, a push that was sent twice would leave two elements in the queue.
 */

import type { Client, Dispatcher } from "undici";
import type { HttpRequest, HttpResponse } from "../replay/http_call.ts";
import { TargetFailed } from "../replay/target.ts";
import { undici } from "./undici.ts";

/**
 * An idle connection is given up this long before the server may close it, because a request could be lost while the
 * server closes it.
 */
const MARGIN_MS = 1000;
/** The most requests that are sent before the first of them is answered. */
const PIPELINED_MAX = 64;
const MIB = 1024 * 1024;
const LIMITS = {
  /** The most bytes of a response that is only counted. */
  countedBytesMax: 4096 * MIB,
  keptBytesMax: 64 * MIB,
  /**
   * A server that sends nothing for this long has failed; so has one that does not finish a response's headers in this
   * time.
   */
  silenceMs: 120_000,
};

/**
 * A budget for the bytes of responses. `take` returns false if it is used up. `own`: the bytes that this connection has
 * taken already.
 */
export interface Room {
  take(bytes: number, own: number): boolean;
  give(bytes: number): void;
}

const ENDLESS: Room = { take: () => true, give() {} };

/**
 * One HTTP/1.1 connection on which requests are pipelined (RFC 9112, 9.3.2): commands reach the target in order, and
 * all that are outstanding share a commit there.
 *
 * undici pipelines a POST only if it is told that the request is idempotent; it then resends requests that a lost
 * connection has left unanswered. Commands are not idempotent: here each request starts once, and after a lost
 * connection none starts.
 */
export class Connection {
  /** The target's name in errors. */
  readonly #name: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #keptBytesMax: number;
  readonly #client: Client;
  readonly #answers: Answers;
  /** Requests whose responses are not complete. */
  readonly #exchanges = new Set<Exchange>();
  #broken: TargetFailed | null = null;

  /**
   * `url`: http: or https: without a path, or unix: with the path of a socket. `token` is sent with every request.
   * `room`: the budget for responses, shared with other connections.
   */
  constructor(url: URL, token: string | null, { countedBytesMax, keptBytesMax, silenceMs } = LIMITS, room = ENDLESS) {
    this.#answers = new Answers(room);
    this.#headers = token === null ? {} : { authorization: `Bearer ${token}` };
    this.#keptBytesMax = keptBytesMax;
    const socketPath = url.protocol === "unix:" ? decodeURIComponent(url.pathname) : null;
    this.#name = socketPath === null ? url.origin : `unix:${socketPath}`;
    this.#client = new (undici().Client)(socketPath === null ? url.origin : "http://localhost", {
      ...(socketPath !== null && { socketPath }),
      pipelining: PIPELINED_MAX,
      maxResponseSize: countedBytesMax,
      headersTimeout: silenceMs,
      bodyTimeout: silenceMs,
      keepAliveTimeoutThreshold: MARGIN_MS,
      // HTTP/2 streams have no order.
      allowH2: false,
    });
    // undici emits this before it reconnects.
    this.#client.on("disconnect", (_origin, _clients, error) => {
      if ([...this.#exchanges].some(({ started }) => started)) this.#break(reasonOf(error));
      if (this.#broken !== null) this.#client.destroy(this.#broken);
    });
  }

  /** Rejects with TargetFailed if there is no response: the command may or may not have run. */
  send({ method, path, body, headers, counted }: HttpRequest): Promise<HttpResponse> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    return new Promise((resolve, reject) => {
      const exchange: Exchange = new Exchange(counted === true, this.#keptBytesMax, this.#answers, {
        mayStart: () => this.#broken === null,
        answered: (response) => {
          this.#exchanges.delete(exchange);
          resolve(response);
        },
        failed: (error) => this.#break(reasonOf(error)),
        rejected: reject,
      });
      this.#exchanges.add(exchange);
      const all = { ...this.#headers, ...headers };
      this.#client.dispatch({ method, path, body, headers: all, idempotent: true, blocking: false }, exchange);
    });
  }

  close(): void {
    this.#break("the connection is closed");
    this.#client.destroy(this.#broken);
  }

  #break(why: string): void {
    this.#broken ??= new TargetFailed(`${this.#name}: ${why}`);
    for (const exchange of this.#exchanges) exchange.reject(this.#broken);
    this.#exchanges.clear();
  }
}

/** The response bytes that this connection has taken from the budget. */
class Answers {
  readonly #room: Room;
  #bytes = 0;

  constructor(room: Room) {
    this.#room = room;
  }

  take(bytes: number): boolean {
    if (!this.#room.take(bytes, this.#bytes)) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#room.give(bytes);
    this.#bytes -= bytes;
  }
}

interface Ends {
  mayStart(): boolean;
  answered(response: HttpResponse): void;
  failed(error: Error): void;
  rejected(error: TargetFailed): void;
}

/** One request and its response, as undici's handler. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #ends: Ends;
  readonly #answers: Answers;
  #kept = 0;
  started = false;
  readonly #counted: boolean;
  readonly #keptBytesMax: number;
  #status = 0;
  #headers: HttpResponse["headers"] = {};
  #pieces: Buffer[] = [];
  #bytes = 0;
  #lines = 0;

  constructor(counted: boolean, keptBytesMax: number, answers: Answers, ends: Ends) {
    this.#counted = counted;
    this.#keptBytesMax = keptBytesMax;
    this.#answers = answers;
    this.#ends = ends;
  }

  reject(error: TargetFailed): void {
    this.#release();
    this.#ends.rejected(error);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.started || !this.#ends.mayStart()) controller.abort(new Ended(CLOSED));
    else this.started = true;
  }

  /** undici calls this for interim responses (100 Continue) as well; the final one comes last. */
  onResponseStart(_controller: Dispatcher.DispatchController, status: number, headers: Fields): void {
    this.#status = status;
    this.#headers = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, value?.toString()]));
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Buffer): void {
    this.#bytes += piece.length;
    if (this.#countsOnly) {
      for (let at = piece.indexOf(LF); at !== -1; at = piece.indexOf(LF, at + 1)) this.#lines++;
    } else if (this.#bytes > this.#keptBytesMax)
      controller.abort(new Ended(`it answers more than ${this.#keptBytesMax} bytes`));
    else if (!this.#answers.take(piece.length)) controller.abort(new Ended("there is no room for its answer"));
    else {
      this.#kept += piece.length;
      this.#pieces.push(piece);
    }
  }

  onResponseEnd(): void {
    const answer = { status: this.#status, headers: this.#headers };
    const [bytes, lines] = [this.#bytes, this.#lines];
    // The receiver of the response has used its bytes by then.
    setImmediate(() => this.#release());
    this.#ends.answered(
      this.#countsOnly
        ? { ...answer, body: Buffer.alloc(0), counted: { bytes, lines } }
        : { ...answer, body: this.#pieces.length === 1 ? (this.#pieces[0] as Buffer) : Buffer.concat(this.#pieces) },
    );
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#release();
    this.#ends.failed(error);
  }

  #release(): void {
    this.#answers.give(this.#kept);
    this.#kept = 0;
    this.#pieces = [];
  }

  get #countsOnly(): boolean {
    return this.#counted && this.#status < 300;
  }
}

type Fields = Parameters<Required<Dispatcher.DispatchHandler>["onResponseStart"]>[2];

const LF = 10;

/** The reason for which this client itself has aborted a request. */
class Ended extends Error {}

const CLOSED = "it has closed the connection";
const NO_HTTP = "its answer is not HTTP/1.1";
const REASONS: Readonly<Record<string, string>> = {
  UND_ERR_INFO: CLOSED,
  UND_ERR_SOCKET: CLOSED,
  ECONNRESET: CLOSED,
  EPIPE: CLOSED,
  UND_ERR_CONNECT_TIMEOUT: "it does not answer",
  UND_ERR_HEADERS_TIMEOUT: "it is silent",
  UND_ERR_BODY_TIMEOUT: "it is silent",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: CLOSED,
  UND_ERR_RES_EXCEEDED_MAX_SIZE: "it answers more than is accepted",
  UND_ERR_HEADERS_OVERFLOW: NO_HTTP,
};

/** The reason of a failure, without anything that the server has sent: it may be confidential. */
function reasonOf(error: Error): string {
  if (error instanceof Ended) return error.message;
  if (error instanceof undici().errors.HTTPParserError) return NO_HTTP;
  const { code = "", syscall } = error as NodeJS.ErrnoException;
  return REASONS[code] ?? (syscall === undefined ? code || error.name : error.message);
}
