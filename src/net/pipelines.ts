/**
 * Pipelined requests: a client may send further requests on a connection before the first is answered. Each connection
 * has at most UNDER_WAY_MAX requests in progress beside the one whose response is being sent; others wait in order.
 * Without this limit a client that reads no responses could make the service hold one for each request: the budget of
 * bytes in flight (`http/server/flight.ts`) does not count small responses.
 */

import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Socket } from "node:net";

const UNDER_WAY_MAX = 32;
/**
 * The most waiting requests, over all connections, that are begun in one turn of the event loop. Other connections are
 * read between turns.
 */
const BEGUN_MAX = 32;
/** If more requests than this wait on a connection, the connection is paused: nothing more is read from it. */
const WAITING_MAX = 32;

/** The pipelined requests of a connection, those after the one whose response is being sent. */
interface Line {
  readonly socket: Socket;
  underWay: number;
  readonly waiting: (readonly [IncomingMessage, ServerResponse])[];
  isPausing: boolean;
  isPaused: boolean;
}

/** A listener that passes requests on to `answer` within these limits, in the order in which they arrived. */
export function inLine(answer: RequestListener): RequestListener {
  const lines = new Lines(answer);
  return (request, response) => lines.add(request, response);
}

class Lines {
  readonly #answer: RequestListener;
  readonly #lines = new WeakMap<Socket, Line>();
  /** Lines that may have a waiting request to begin. */
  readonly #ready = new Set<Line>();
  #scheduled = false;

  constructor(answer: RequestListener) {
    this.#answer = answer;
  }

  add(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    if (responseOf(socket) === response) {
      this.#answer(request, response);
      return;
    }
    const line = this.#lines.get(socket) ?? { socket, underWay: 0, waiting: [], isPausing: false, isPaused: false };
    this.#lines.set(socket, line);
    if (line.underWay < UNDER_WAY_MAX && line.waiting.length === 0) {
      this.#begin(line, request, response);
      return;
    }
    line.waiting.push([request, response]);
    if (line.waiting.length > WAITING_MAX) this.#pause(line);
  }

  /** Pauses the socket in the next tick: Node resumes it after each request of the chunk that it is parsing. */
  #pause(line: Line): void {
    line.isPaused = true;
    if (line.isPausing) return;
    line.isPausing = true;
    process.nextTick(() => {
      line.isPausing = false;
      if (line.isPaused) line.socket.pause();
    });
  }

  #begin(line: Line, request: IncomingMessage, response: ServerResponse): void {
    line.underWay++;
    response.once("close", () => {
      line.underWay--;
      this.#settle(line);
    });
    this.#answer(request, response);
  }

  /** Begins, continues or ends the waiting of a line after one of its requests has begun or ended. */
  #settle(line: Line): void {
    if (line.socket.destroyed) line.waiting.length = 0;
    if (line.waiting.length > 0) {
      if (line.underWay < UNDER_WAY_MAX) this.#ready.add(line);
      this.#schedule();
    } else if (line.isPaused) {
      line.isPaused = false;
      line.socket.resume();
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
      const next = line.socket.destroyed ? undefined : line.waiting.shift();
      if (next !== undefined) this.#begin(line, ...next);
      this.#settle(line);
      if (--left === 0) return;
    }
  }
}

/** The response that is being sent on a connection, or null. Only this private field of Node's has it. */
export function responseOf(socket: Socket): ServerResponse | null {
  return (socket as { _httpMessage?: ServerResponse | null })._httpMessage ?? null;
}
