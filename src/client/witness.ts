import type { Client } from "undici";
import { undici } from "./undici.ts";

/** The longest response that is read: 40 ML-DSA-44 signatures fit. */
const ANSWER_BYTES_MAX = 128 * 1024;
/** The time that a witness may be silent, and that a response may take in all. */
const SILENCE_MS = 10_000;
const ANSWER_MS = 30_000;

export interface WitnessAnswer {
  readonly status: number;
  /** The content type, without parameters. */
  readonly type: string;
  readonly text: string;
}

/** A connection to a witness: `add-checkpoint` of https://c2sp.org/tlog-witness. Redirects are not followed. */
export class WitnessConnection {
  readonly #client: Client;
  readonly #path: string;

  /** `url`: the witness' submission prefix. */
  constructor(url: URL) {
    this.#path = `${url.pathname.replace(/\/+$/, "")}/add-checkpoint`;
    this.#client = new (undici().Client)(url.origin, {
      maxResponseSize: ANSWER_BYTES_MAX,
      headersTimeout: SILENCE_MS,
      bodyTimeout: SILENCE_MS,
      connectTimeout: SILENCE_MS,
      allowH2: false,
    });
  }

  /** Sends a request's body. Throws an Error if there is no response: the witness may or may not have cosigned. */
  async add(body: string): Promise<WitnessAnswer> {
    const headers = { "content-type": "text/plain; charset=utf-8" };
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await this.#client.request({ method: "POST", path: this.#path, headers, body, signal });
    const [type = ""] = String(response.headers["content-type"] ?? "").split(";");
    return { status: response.statusCode, type: type.trim().toLowerCase(), text: await response.body.text() };
  }

  /** Closes the connection; outstanding requests fail. */
  async close(): Promise<void> {
    await this.#client.destroy();
  }
}
