import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/**
 * Requests of one connection that are answered at once, beside the one whose answer is being taken. Whoever sends more waits: small
 * answers are not counted as in flight, and a reader that takes nothing would have the service hold one for each of his requests.
 */
const UNDER_WAY_MAX = 32;
/** Of those that wait, over all connections, so many are begun in a turn of the event loop: others are read from between. */
const BEGUN_MAX = 32;
/** While more than so many of a connection's wait, nothing more is read from it. */
const WAITING_MAX = 32;

/** What came by one connection behind the request whose answer is being taken. */
interface Line {
  readonly socket: Socket;
  underWay: number;
  readonly waiting: (readonly [IncomingMessage, ServerResponse])[];
  isPausing: boolean;
  isPaused: boolean;
}

/** Answers no more than so many pipelined requests of a connection at once, and begins them in their order. */
export function inLine(answer: RequestListener): RequestListener {
  const lines = new Lines(answer);
  return (request, response) => lines.add(request, response);
}

class Lines {
  readonly #answer: RequestListener;
  readonly #lines = new WeakMap<Socket, Line>();
  /** Those of which a request may be begun. */
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

  /** Behind all that was read at once: Node reads on after each request of it. */
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

  /** What is to be done with a line after one of its requests has begun or ended. */
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

  /** One of each line, and again from the first. */
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

/** The response that is being written to a connection; null: none is. Node tells it nowhere else. */
export function responseOf(socket: Socket): ServerResponse | null {
  return (socket as { _httpMessage?: ServerResponse | null })._httpMessage ?? null;
}
