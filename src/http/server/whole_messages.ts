/**
 * node:http's messages without streams, for the fast path: a request whose body is handed over at once, and a response
 * whose head is one text. Streams and lists of headers take a third of the time that node:http needs for a small
 * request. All other requests use the same classes as streams.
 */

import { IncomingMessage, type ServerResponse } from "node:http";

/** Fields and methods of node:http that its types do not have. */
interface RequestInternals {
  /** Marks a request as read to its end, without the events of a stream. */
  _dumpAndCloseReadable(): void;
}
interface ResponseInternals {
  /** The head, once it has been made. */
  _header: string | null;
}

/** A request of which the body can be taken at once instead of being read as a stream. */
export class WholeRequest extends IncomingMessage {
  private isTaken = false;
  private taken: ((body: Buffer) => void) | null = null;
  private pieces: Buffer | Buffer[] | null = null;

  /** Calls `taken` with the body when all of it has arrived; never, if the connection breaks off before. */
  takeBody(taken: (body: Buffer) => void): void {
    // A pipelined request may have waited, and the stream has what came meanwhile.
    if (this.complete || this.readableLength > 0) {
      readStream(this, taken);
      return;
    }
    this.isTaken = true;
    this.taken = taken;
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

function readStream(request: IncomingMessage, read: (body: Buffer) => void): void {
  const pieces: Buffer[] = [];
  request.on("data", (piece: Buffer) => pieces.push(piece));
  request.on("end", () => read(Buffer.concat(pieces)));
  request.on("error", () => {});
}

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
