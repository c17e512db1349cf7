/**
 * HTTP/1.1 on a plain socket, one request at a time: for the command line, where loading node:http takes longer than
 * everything else that a command does. RFC 9112 is followed as far as mapledger's own answers go.
 */

import { connect, isIP, type Socket } from "node:net";
import { AnswerReader } from "./answer_reader.ts";
import type { Service } from "./ask.ts";

const UNIX = "unix:";
/** Above this many bytes that nobody has taken yet, the socket is not read. */
const WAITING_BYTES_MAX = 1024 * 1024;

/** A request; `path` begins with a slash. A body is JSON. */
export interface PlainRequest {
  readonly method: string;
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: object;
}

/** The beginning of a response; `pieces` yields its body, and must be read to its end or left by `return`. */
export interface PlainResponse {
  readonly status: number;
  readonly pieces: AsyncIterable<Buffer>;
}

/** The service cannot be reached, has gone away, or does not speak HTTP/1.1. */
export class ConnectionFailed extends Error {}

/** The connection is opened with the first request, and again if the service has closed it between two requests. */
export class PlainConnection {
  readonly #service: Service;
  #line: Line | null = null;

  constructor(service: Service) {
    this.#service = service;
  }

  /** Throws ConnectionFailed if there is no response. */
  async send({ method, path, headers = {}, body }: PlainRequest): Promise<PlainResponse> {
    const text = body === undefined ? null : JSON.stringify(body);
    const request = requestText(method, path, this.#headers(headers, text), text ?? "");
    this.#line = this.#line?.isUsable === true ? this.#line : await this.#open();
    const line = this.#line;
    line.write(request);
    const status = await line.head();
    return { status, pieces: line.pieces() };
  }

  close(): void {
    this.#line?.close();
  }

  #headers(given: Readonly<Record<string, string>>, text: string | null): Readonly<Record<string, string>> {
    const { token, url } = this.#service;
    if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
      throw new ConnectionFailed("the token has characters that no token has");
    return {
      host: url.startsWith(UNIX) ? "localhost" : new URL(url).host,
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...(text !== null && { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) }),
      ...given,
    };
  }

  async #open(): Promise<Line> {
    const { url } = this.#service;
    const socket = await socketTo(url).catch((error: Error) => {
      throw new ConnectionFailed(`${url}: ${error.message}`);
    });
    return new Line(socket, url);
  }
}

function requestText(method: string, path: string, headers: Readonly<Record<string, string>>, body: string): string {
  const fields = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${fields.join("")}\r\n${body}`;
}

async function socketTo(url: string): Promise<Socket> {
  if (url.startsWith(UNIX)) return opened(connect(url.slice(UNIX.length)), "connect");
  const { protocol, hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  if (protocol === "http:") return opened(connect(Number(port || 80), host), "connect");
  const tls = await import("node:tls");
  return opened(
    tls.connect({ host, port: Number(port || 443), servername: isIP(host) === 0 ? host : "" }),
    "secureConnect",
  );
}

function opened(socket: Socket, event: "connect" | "secureConnect"): Promise<Socket> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once(event, () => {
      socket.off("error", reject);
      resolve(socket);
    });
  });
}

/** One open connection: what it has received and nobody has read yet, and how far its response is. */
class Line {
  readonly #socket: Socket;
  readonly #url: string;
  #reader = new AnswerReader();
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #ended = false;
  #failure: string | null = null;
  #wake: () => void = () => {};

  constructor(socket: Socket, url: string) {
    this.#socket = socket;
    this.#url = url;
    socket.on("data", (piece: Buffer) => this.#received(piece));
    socket.on("end", () => this.#end(null));
    socket.on("error", ({ message }: Error) => this.#end(message));
    socket.on("close", () => this.#end(null));
  }

  /** Whether a request can be sent: the last response was read to its end, and the service keeps the connection. */
  get isUsable(): boolean {
    return !this.#ended && this.#waitingBytes === 0 && this.#reader.keepsAlive;
  }

  write(text: string): void {
    this.#reader = new AnswerReader();
    this.#socket.write(text);
  }

  /** The response's status. */
  async head(): Promise<number> {
    for (;;) {
      const status = this.#read(() => this.#reader.status);
      if (status !== null) return status;
      await this.#feed();
    }
  }

  async *pieces(): AsyncIterable<Buffer> {
    try {
      for (;;) {
        yield* this.#reader.taken();
        if (this.#reader.isWhole) return;
        await this.#feed();
      }
    } finally {
      // Nobody will read the rest: the connection can serve no further request.
      if (!this.#reader.isWhole) this.close();
    }
  }

  close(): void {
    this.#end(null);
    this.#socket.destroy();
  }

  /** Gives the reader the next bytes, or the end of the connection. */
  async #feed(): Promise<void> {
    while (this.#waiting.length === 0 && !this.#ended)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    const piece = this.#waiting.shift();
    if (piece === undefined) {
      if (this.#failure !== null) throw new ConnectionFailed(`${this.#url}: ${this.#failure}`);
      return this.#read(() => this.#reader.end());
    }
    this.#waitingBytes -= piece.length;
    if (this.#waitingBytes <= WAITING_BYTES_MAX && this.#socket.isPaused()) this.#socket.resume();
    this.#read(() => this.#reader.take(piece));
  }

  #read<Answer>(read: () => Answer): Answer {
    try {
      return read();
    } catch (error) {
      this.close();
      throw new ConnectionFailed(`${this.#url}: ${(error as Error).message}`);
    }
  }

  #received(piece: Buffer): void {
    this.#waiting.push(piece);
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes > WAITING_BYTES_MAX) this.#socket.pause();
    this.#wake();
  }

  #end(failure: string | null): void {
    this.#ended = true;
    this.#failure ??= failure;
    this.#wake();
  }
}
