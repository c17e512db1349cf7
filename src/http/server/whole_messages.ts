/**
 * node:http's messages without streams, for the fast path: a request whose body is handed over at once, and a response
 * whose head is one text. The requests of a connection have the same header lines nearly always, and are read once.
 * Streams and headers take more than a third of the time that node:http needs for a small request. All other requests
 * use the same class as a stream.
 */

import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { http } from "../../net/http.ts";
import { isSecret } from "./secrets.ts";

/** Fields and methods of node:http that its types do not have. */
interface RequestInternals {
  /** Marks a request as read to its end, without the events of a stream. */
  _dumpAndCloseReadable(): void;
}
interface ResponseInternals {
  /** The head, once it has been made. */
  _header: string | null;
}

/** Header lines above these bounds are not remembered, because there may be thousands of connections. */
const LINES_MAX = 64;
const CHARACTERS_MAX = 2048;

/** The header lines of a request: names and values in turn. */
export class HeaderLines {
  readonly headers: IncomingHttpHeaders;
  readonly #lines: readonly string[];
  /** The place of the value of Authorization, or -1. */
  readonly #secretAt: number;

  constructor(lines: readonly string[], headers: IncomingHttpHeaders) {
    this.headers = headers;
    this.#lines = lines;
    this.#secretAt = lines.findIndex((line, at) => at % 2 === 0 && line.toLowerCase() === "authorization") + 1 || -1;
  }

  get isShort(): boolean {
    const lines = this.#lines;
    return lines.length <= LINES_MAX && lines.reduce((all, { length }) => all + length, 0) <= CHARACTERS_MAX;
  }

  isSame(lines: readonly string[]): boolean {
    const own = this.#lines;
    if (lines.length !== own.length) return false;
    const secretAt = this.#secretAt;
    for (let at = 0; at < own.length; at++) if (at !== secretAt && lines[at] !== own[at]) return false;
    return secretAt === -1 || isSecret(own[secretAt] as string, lines[secretAt] as string);
  }
}

/** The header lines of the last request of each connection. */
const LAST = new WeakMap<Socket, HeaderLines>();

/** A request of which the body can be taken at once instead of being read as a stream. */
export class WholeRequest extends http.IncomingMessage {
  private isTaken = false;
  private taken: ((body: Buffer) => void) | null = null;
  private pieces: Buffer | Buffer[] | null = null;
  private ownLines: HeaderLines | null = null;
  private ownHeaders: IncomingHttpHeaders | null = null;

  /** The same object for requests in a row on one connection that have the same lines. */
  get headerLines(): HeaderLines {
    const { ownLines, socket, rawHeaders } = this;
    if (ownLines !== null) return ownLines;
    const last = LAST.get(socket);
    if (last?.isSame(rawHeaders) === true) {
      this.ownLines = last;
      return last;
    }
    const lines = new HeaderLines(rawHeaders, HEADERS.get?.call(this));
    this.ownLines = lines;
    if (lines.isShort) LAST.set(socket, lines);
    return lines;
  }

  /** From now on the request has headers that no other request shares. */
  unshare(): void {
    this.ownHeaders ??= { ...this.headerLines.headers };
  }

  /** Calls `taken` with the body when all of it has arrived; never, if the connection breaks off before. */
  takeBody(taken: (body: Buffer) => void): void {
    // A pipelined request may have waited, and the stream has what came meanwhile. It is read at once: those behind it
    // may be begun in this turn, and must not come first.
    if (this.readableLength > 0) this.pieces = this.read();
    this.isTaken = true;
    this.taken = taken;
    if (this.complete) this.end();
  }

  /** The request has no body. */
  takeNothing(): void {
    this.isTaken = true;
    end(this);
  }

  /** Called by node:http's parser: with pieces of the body, and with null behind the last one. */
  override push(piece: Buffer | null, encoding?: BufferEncoding): boolean {
    if (!this.isTaken) return super.push(piece, encoding);
    if (piece === null) this.end();
    else if (this.pieces === null) this.pieces = piece;
    else this.pieces = [this.pieces, piece].flat();
    return true;
  }

  private end(): void {
    const { taken, pieces } = this;
    if (taken === null) return;
    this.taken = null;
    end(this);
    taken(Array.isArray(pieces) ? Buffer.concat(pieces) : (pieces ?? NOTHING));
  }
}

const NOTHING = Buffer.alloc(0);
const HEADERS = Object.getOwnPropertyDescriptor(http.IncomingMessage.prototype, "headers") ?? {};

// An accessor of node:http's, which its types call a property.
Object.defineProperty(WholeRequest.prototype, "headers", {
  get(this: { ownHeaders: IncomingHttpHeaders | null } & Pick<WholeRequest, "headerLines">) {
    return this.ownHeaders ?? this.headerLines.headers;
  },
  set(this: { ownHeaders: IncomingHttpHeaders | null }, headers: IncomingHttpHeaders) {
    this.ownHeaders = headers;
  },
});

function end(request: IncomingMessage): void {
  (request as unknown as RequestInternals)._dumpAndCloseReadable();
}

/** Sends a response in one write. `head`: status line and headers, with the empty line behind them; the text has only characters of Latin-1. */
export function sendWhole(response: ServerResponse, head: string, text: string): void {
  (response as unknown as ResponseInternals)._header = head;
  response.end(text, "latin1");
}

let second = Number.NaN;
let date = "";

/** The time of the Date header. */
export function httpDate(): string {
  const now = Math.floor(Date.now() / 1000);
  if (now !== second) {
    second = now;
    date = new Date(now * 1000).toUTCString();
  }
  return date;
}
