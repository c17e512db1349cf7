import { Client, type Dispatcher, errors } from "undici";
import type { HttpRequest, HttpResponse } from "../replay/http_call.ts";
import { TargetFailed } from "../replay/target.ts";

/** How long before a server may close a connection that rests it is not used any more: what is sent then is not lost. */
const MARGIN_MS = 1000;
/** Requests that go out before the first of them is answered. */
const PIPELINED_MAX = 64;
const MIB = 1024 * 1024;
const LIMITS = {
  /** Of an answer of which bytes and lines are counted only. */
  countedBytesMax: 4096 * MIB,
  keptBytesMax: 64 * MIB,
  /** A server that says nothing for so long is taken for gone; so is one that does not come to the end of an answer's head. */
  silenceMs: 120_000,
};

/** Room for the bytes of answers: what is taken is given back. `own`: bytes that the taker has of it. */
export interface Room {
  take(bytes: number, own: number): boolean;
  give(bytes: number): void;
}

const ENDLESS: Room = { take: () => true, give() {} };

/**
 * One connection of HTTP/1.1 at a time, whose requests go out without waiting for the answers before (RFC 9112, 9.3.2): commands
 * reach their target in order, and a commit there is shared by all that are under way.
 *
 * undici pipelines a POST only if it is told that the request is idempotent, and then sends again by itself what a lost
 * connection has left unanswered. Commands are not idempotent: each starts once, and none starts after one that was lost.
 */
export class Connection {
  /** As errors have it. */
  readonly #name: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #keptBytesMax: number;
  readonly #client: Client;
  readonly #answers: Answers;
  /** Those that are not over. */
  readonly #exchanges = new Set<Exchange>();
  #broken: TargetFailed | null = null;

  /** `url` is http: or https:, without a path, or unix: and the path of a socket; `token` goes with every request; answers are kept where `room` has some. */
  constructor(url: URL, token: string | null, { countedBytesMax, keptBytesMax, silenceMs } = LIMITS, room = ENDLESS) {
    this.#answers = new Answers(room);
    this.#headers = token === null ? {} : { authorization: `Bearer ${token}` };
    this.#keptBytesMax = keptBytesMax;
    const socketPath = url.protocol === "unix:" ? decodeURIComponent(url.pathname) : null;
    this.#name = socketPath === null ? url.origin : `unix:${socketPath}`;
    this.#client = new Client(socketPath === null ? url.origin : "http://localhost", {
      ...(socketPath !== null && { socketPath }),
      pipelining: PIPELINED_MAX,
      maxResponseSize: countedBytesMax,
      headersTimeout: silenceMs,
      bodyTimeout: silenceMs,
      keepAliveTimeoutThreshold: MARGIN_MS,
      // The streams of HTTP/2 have no order.
      allowH2: false,
    });
    // undici tells of it before it connects again.
    this.#client.on("disconnect", (_origin, _clients, error) => {
      if ([...this.#exchanges].some(({ started }) => started)) this.#break(reasonOf(error));
      if (this.#broken !== null) this.#client.destroy(this.#broken);
    });
  }

  /** Rejects with TargetFailed where there is no answer: the command may have run, or not. */
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

/** The bytes of a connection's answers that are kept. */
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

/** A request's way through undici. */
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

  /** Also called for 100 Continue and its like, which are no answers yet. */
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
    // Whoever waits for it has read it by then.
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

/** Why an exchange was ended here. */
class Ended extends Error {}

const CLOSED = "it has closed the connection";
const NO_HTTP = "it answers what is not HTTP/1.1";
const REASONS: Readonly<Record<string, string>> = {
  UND_ERR_INFO: CLOSED,
  UND_ERR_SOCKET: CLOSED,
  ECONNRESET: CLOSED,
  EPIPE: CLOSED,
  UND_ERR_CONNECT_TIMEOUT: "it does not answer",
  UND_ERR_HEADERS_TIMEOUT: "it is silent",
  UND_ERR_BODY_TIMEOUT: "it is silent",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: CLOSED,
  UND_ERR_RES_EXCEEDED_MAX_SIZE: "it answers more than is read of an answer",
  UND_ERR_HEADERS_OVERFLOW: NO_HTTP,
};

/** Nothing of what the server has sent: it need not be ours to tell. */
function reasonOf(error: Error): string {
  if (error instanceof Ended) return error.message;
  if (error instanceof errors.HTTPParserError) return NO_HTTP;
  const { code = "", syscall } = error as NodeJS.ErrnoException;
  return REASONS[code] ?? (syscall === undefined ? code || error.name : error.message);
}
