/**
 * Pipelined requests: a client may send further requests on a connection before the first is answered. They take effect
 * in their order: a request that cannot be answered at once waits until all before it are answered, and those behind it
 * wait for it. Requests that can be answered at once are begun together, because the engine keeps their order.
 *
 * Each connection has at most UNDER_WAY_MAX requests in progress beside the one whose response is being sent; others
 * wait. Without this limit a client that reads no responses could make the service hold one for each request: the
 * budget of bytes in flight (`http/server/flight.ts`) does not count small responses.
 */

import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { PIPELINE, pauseFor, resumeFrom } from "./pauses.ts";

const UNDER_WAY_MAX = 32;
/**
 * The most waiting requests, over all connections, that are begun in one turn of the event loop. Other connections are
 * read between turns.
 */
const BEGUN_MAX = 32;
/** If more requests than this wait on a connection, the connection is paused: nothing more is read from it. */
const WAITING_MAX = 32;

/** Begins a request whose effect comes before that of any later one; false: it has done nothing, it is not that kind. */
type AnswerAtOnce<Request> = (request: Request, response: ServerResponse) => boolean;

/** The pipelined requests of a connection, those after the one whose response is being sent. */
interface Line {
  readonly socket: Socket;
  underWay: number;
  readonly waiting: (readonly [IncomingMessage, ServerResponse])[];
  /** The first of those that wait cannot be answered at once. */
  isLast: boolean;
  isPausing: boolean;
  isPaused: boolean;
}

/**
 * A listener that passes requests on within these limits, in the order in which they arrived: to `atOnce`, and if that
 * returns false, to `answer`.
 */
export function inLine<Request extends IncomingMessage>(
  atOnce: AnswerAtOnce<Request>,
  answer: (request: Request, response: ServerResponse) => void,
): RequestListener {
  const lines = new Lines(atOnce as AnswerAtOnce<IncomingMessage>, answer as RequestListener);
  return (request, response) => lines.add(request, response);
}

class Lines {
  readonly #atOnce: AnswerAtOnce<IncomingMessage>;
  readonly #answer: RequestListener;
  readonly #lines = new WeakMap<Socket, Line>();
  /** Responses that are not answered at once; each is the first of its connection. */
  readonly #slow = new WeakSet<ServerResponse>();
  /** Lines that may have a waiting request to begin. */
  readonly #ready = new Set<Line>();
  #scheduled = false;

  constructor(atOnce: AnswerAtOnce<IncomingMessage>, answer: RequestListener) {
    this.#atOnce = atOnce;
    this.#answer = answer;
  }

  add(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    const first = responseOf(socket);
    if (first === response) {
      this.#beginFirst(request, response);
      return;
    }
    const line = this.#lines.get(socket) ?? newLine(socket);
    this.#lines.set(socket, line);
    if (line.waiting.length === 0 && this.#begin(line, request, response)) return;
    if (line.waiting.length === 0) first?.once("close", () => this.#settle(line));
    line.waiting.push([request, response]);
    if (line.waiting.length > WAITING_MAX) this.#pause(line);
  }

  #beginFirst(request: IncomingMessage, response: ServerResponse): void {
    if (this.#atOnce(request, response)) return;
    this.#slow.add(response);
    this.#answer(request, response);
  }

  /** Pauses the socket in the next tick: Node resumes it after each request of the chunk that it is parsing. */
  #pause(line: Line): void {
    line.isPaused = true;
    if (line.isPausing) return;
    line.isPausing = true;
    process.nextTick(() => {
      line.isPausing = false;
      if (line.isPaused) pauseFor(line.socket, PIPELINE);
    });
  }

  /** Begins the request unless it has to wait. */
  #begin(line: Line, request: IncomingMessage, response: ServerResponse): boolean {
    const first = responseOf(line.socket);
    if (first === response) {
      line.isLast = false;
      this.#follow(line, response);
      this.#beginFirst(request, response);
      return true;
    }
    // No response is the first of a connection that ends.
    if (first === null || line.isLast || line.underWay >= UNDER_WAY_MAX || this.#slow.has(first)) return false;
    if (!this.#atOnce(request, response)) {
      line.isLast = true;
      return false;
    }
    this.#follow(line, response);
    return true;
  }

  #follow(line: Line, response: ServerResponse): void {
    line.underWay++;
    response.once("close", () => {
      line.underWay--;
      this.#settle(line);
    });
  }

  /** Begins, continues or ends the waiting of a line after one of its requests has begun or ended. */
  #settle(line: Line): void {
    if (line.socket.destroyed) line.waiting.length = 0;
    if (line.waiting.length > 0) {
      this.#ready.add(line);
      this.#schedule();
    } else if (line.isPaused) {
      line.isPaused = false;
      resumeFrom(line.socket, PIPELINE);
    }
  }

  #schedule(): void {
    if (this.#scheduled || this.#ready.size === 0) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
      this.#schedule();
    });
  }

  /** Begins one request of each ready line, then a second of each, up to BEGUN_MAX in all. */
  #turn(): void {
    let left = BEGUN_MAX;
    for (const line of this.#ready) {
      this.#ready.delete(line);
      const [next] = line.waiting;
      if (next !== undefined && !line.socket.destroyed) {
        if (!this.#begin(line, ...next)) continue;
        line.waiting.shift();
        // Reading its body has resumed the connection.
        if (line.isPaused && line.waiting.length > 0) pauseFor(line.socket, PIPELINE);
      }
      this.#settle(line);
      if (--left === 0) return;
    }
  }
}

function newLine(socket: Socket): Line {
  return { socket, underWay: 0, waiting: [], isLast: false, isPausing: false, isPaused: false };
}

/** The response that is being sent on a connection, or null. Only this private field of Node's has it. */
export function responseOf(socket: Socket): ServerResponse | null {
  return (socket as { _httpMessage?: ServerResponse | null })._httpMessage ?? null;
}
