import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { HttpRequest, HttpResponse } from "../replay/http_call.ts";
import { TargetFailed } from "../replay/target.ts";
import { ResponseParser } from "./response_parser.ts";

interface Waiting {
  readonly resolve: (response: HttpResponse) => void;
  readonly reject: (error: Error) => void;
}

/** A server that says nothing for so long is taken for gone. */
const SILENCE_MS = 120_000;

/**
 * One connection of HTTP/1.1 whose requests go out without waiting for the answers before (RFC 9112, 9.3.2): commands
 * reach their target in order, and a commit there is shared by all that are under way. Node's own client sends one at a time.
 */
export class Connection {
  readonly #socket: Socket;
  readonly #head: string;
  readonly #waiting: Waiting[] = [];
  readonly #parser: ResponseParser;
  readonly #where: string;
  #broken: TargetFailed | null = null;

  /** `url` is http: or https:, without a path; `token` goes with every request. */
  constructor(url: URL, token: string | null) {
    this.#where = url.origin;
    const tls = url.protocol === "https:";
    const port = Number(url.port) || (tls ? 443 : 80);
    const host = url.hostname.replace(/^\[|\]$/g, "");
    this.#socket = tls ? connectTls({ host, port, servername: host }) : connectTcp({ host, port });
    this.#head = `host: ${url.host}\r\n${token === null ? "" : `authorization: Bearer ${token}\r\n`}`;
    this.#parser = new ResponseParser((response) => this.#waiting.shift()?.resolve(response));
    this.#socket.setNoDelay(true).setTimeout(SILENCE_MS);
    this.#socket.on("data", (piece) => this.#parse(piece));
    this.#socket.on("timeout", () => {
      if (this.#waiting.length > 0) this.#break("it is silent");
    });
    this.#socket.on("error", (error) => this.#break(error.message));
    this.#socket.on("close", () => this.#break("it has closed the connection"));
  }

  /** Rejects with TargetFailed where there is no answer: the command may have run, or not. */
  send({ method, path, body, headers }: HttpRequest): Promise<HttpResponse> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    const bytes = body === null ? null : Buffer.from(body as string);
    const all = bytes === null ? headers : { ...headers, "content-length": String(bytes.length) };
    const fields = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = `${method} ${path} HTTP/1.1\r\n${this.#head}${fields.join("")}\r\n`;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      // Together, so that they leave in one segment.
      this.#socket.cork();
      this.#socket.write(head);
      if (bytes !== null) this.#socket.write(bytes);
      process.nextTick(() => this.#socket.uncork());
    });
  }

  close(): void {
    this.#broken ??= new TargetFailed("the connection is closed");
    this.#socket.destroy();
  }

  #parse(piece: Buffer): void {
    try {
      this.#parser.push(piece);
    } catch (error) {
      this.#break((error as Error).message);
    }
  }

  #break(why: string): void {
    this.#broken ??= new TargetFailed(`${this.#where}: ${why}`);
    this.#socket.destroy();
    for (const { reject } of this.#waiting.splice(0)) reject(this.#broken);
  }
}
