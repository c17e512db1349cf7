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

/** How long before a server may close a connection that rests it is not used any more: what is sent then is not lost. */
const MARGIN_MS = 1000;

/**
 * One connection of HTTP/1.1 at a time, whose requests go out without waiting for the answers before (RFC 9112, 9.3.2): commands
 * reach their target in order, and a commit there is shared by all that are under way. Node's own client sends one at a time.
 */
export class Connection {
  readonly #url: URL;
  readonly #head: string;
  readonly #waiting: Waiting[] = [];
  /** null: none yet, or the server has closed the one that rested. */
  #socket: Socket | null = null;
  #restsSinceMs = 0;
  /** How long the server leaves a connection alone, as far as it says so: RFC 2068, 19.7.1.1. */
  #restMs = Number.POSITIVE_INFINITY;
  #broken: TargetFailed | null = null;

  /** `url` is http: or https:, without a path; `token` goes with every request. */
  constructor(url: URL, token: string | null) {
    this.#url = url;
    this.#head = `host: ${url.host}\r\n${token === null ? "" : `authorization: Bearer ${token}\r\n`}`;
  }

  /** Rejects with TargetFailed where there is no answer: the command may have run, or not. */
  send({ method, path, body, headers }: HttpRequest): Promise<HttpResponse> {
    if (this.#broken !== null) return Promise.reject(this.#broken);
    const bytes = body === null ? null : Buffer.from(body as string);
    const all = bytes === null ? headers : { ...headers, "content-length": String(bytes.length) };
    const fields = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = `${method} ${path} HTTP/1.1\r\n${this.#head}${fields.join("")}\r\n`;
    const socket = this.#connected();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      // Together, so that they leave in one segment.
      socket.cork();
      socket.write(head);
      if (bytes !== null) socket.write(bytes);
      process.nextTick(() => socket.uncork());
    });
  }

  close(): void {
    this.#broken ??= new TargetFailed("the connection is closed");
    this.#socket?.destroy();
  }

  #connected(): Socket {
    const mayClose = this.#waiting.length === 0 && performance.now() - this.#restsSinceMs >= this.#restMs - MARGIN_MS;
    if (this.#socket !== null && !mayClose) return this.#socket;
    this.#socket?.destroy();
    const socket = connect(this.#url);
    const parser = new ResponseParser((response) => this.#answered(response));
    /** What happens to a connection that is not used any more is nobody's concern. */
    const lost = (why: string): void => {
      if (socket !== this.#socket) return;
      if (this.#waiting.length > 0) this.#break(why);
      else this.#socket = null;
    };
    socket.setNoDelay(true).setTimeout(SILENCE_MS);
    socket.on("data", (piece) => {
      try {
        parser.push(piece);
      } catch (error) {
        this.#break((error as Error).message);
      }
    });
    socket.on("timeout", () => {
      if (this.#waiting.length > 0) lost("it is silent");
    });
    socket.on("error", (error) => lost(error.message));
    socket.on("close", () => lost("it has closed the connection"));
    this.#socket = socket;
    return socket;
  }

  #answered(response: HttpResponse): void {
    const [, seconds] = /timeout=(\d+)/.exec(response.headers["keep-alive"] ?? "") ?? [];
    if (seconds !== undefined) this.#restMs = Number(seconds) * 1000;
    this.#restsSinceMs = performance.now();
    this.#waiting.shift()?.resolve(response);
  }

  #break(why: string): void {
    this.#broken ??= new TargetFailed(`${this.#url.origin}: ${why}`);
    this.#socket?.destroy();
    for (const { reject } of this.#waiting.splice(0)) reject(this.#broken);
  }
}

function connect(url: URL): Socket {
  const tls = url.protocol === "https:";
  const port = Number(url.port) || (tls ? 443 : 80);
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return tls ? connectTls({ host, port, servername: host }) : connectTcp({ host, port });
}
