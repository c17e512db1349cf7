/**
 * Requests that the service sends to itself in the name of a caller. An import uses them: each command of the export
 * passes through the same routes, scopes and limits as a command of any client.
 */

import type { Readable } from "node:stream";
import type { Caller } from "../../access/caller.ts";
import type { Callers } from "../../access/callers.ts";
import type { Turns } from "../../engine/turn_queue.ts";
import type { Transport } from "../../replay/api_target.ts";
import type { HttpRequest, HttpResponse } from "../../replay/http_call.ts";
import { SMALL_BYTES } from "../server/flight.ts";
import type { App } from "../server/instance.ts";

/** The most bytes of an answer that is compared with the recorded one, because a comparison delays other requests. */
const ANSWER_BYTES_MAX = 512 * 1024;
const LF = 10;

export interface OwnParts {
  readonly callers: Pick<Callers, "lend" | "takeBack">;
  readonly turns: Pick<Turns, "take">;
}

/** Sends requests to this service, without a connection. */
export class OwnRequests implements Transport {
  readonly #app: App;
  readonly #callers: OwnParts["callers"];
  readonly #turns: OwnParts["turns"];
  readonly #token: string;
  readonly #peer: string | undefined;

  /** Call `end` afterwards. `peer`: the sender's address, as events record it. */
  constructor(app: App, { callers, turns }: OwnParts, caller: Caller, peer: string | undefined) {
    this.#app = app;
    this.#turns = turns;
    this.#peer = peer;
    this.#callers = callers;
    this.#token = callers.lend(caller);
  }

  /** Makes the token of the requests invalid: later ones are refused. */
  end(): void {
    this.#callers.takeBack(this.#token);
  }

  async send({ method, path, body, headers, counted }: HttpRequest): Promise<HttpResponse> {
    const payload = body === null ? {} : { payload: body };
    const response = await this.#app.inject({
      payloadAsStream: true,
      method,
      url: path,
      headers: { ...headers, authorization: `Bearer ${this.#token}` },
      ...payload,
      ...(this.#peer !== undefined && { remoteAddress: this.#peer }),
    });
    const { bytes, lines, kept } = await received(response.stream());
    const answer = {
      status: response.statusCode,
      headers: Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)])),
      body: kept ?? Buffer.alloc(0),
    };
    // A large answer is processed in a turn of its own.
    if (bytes > SMALL_BYTES) await this.#turns.take();
    if (counted === true && answer.status < 300) return { ...answer, counted: { bytes, lines } };
    return kept === null ? { ...answer, longerThan: ANSWER_BYTES_MAX } : answer;
  }
}

/** Counts the bytes and lines of an answer. `kept`: the answer; null if it has more than ANSWER_BYTES_MAX. */
async function received(
  stream: Readable,
): Promise<{ readonly bytes: number; readonly lines: number; readonly kept: Buffer | null }> {
  const pieces: Buffer[] = [];
  let [bytes, lines] = [0, 0];
  for await (const piece of stream as AsyncIterable<Buffer>) {
    bytes += piece.length;
    for (let at = piece.indexOf(LF); at !== -1; at = piece.indexOf(LF, at + 1)) lines++;
    if (bytes <= ANSWER_BYTES_MAX) pieces.push(piece);
    else pieces.length = 0;
  }
  return { bytes, lines, kept: bytes <= ANSWER_BYTES_MAX ? Buffer.concat(pieces) : null };
}
