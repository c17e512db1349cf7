/** Counts the streams that follow the log, limits their number, and ends them when the service stops. */

import type { FastifyReply } from "fastify";
import { isOver, type Limits, QUOTAS } from "../../access/quotas.ts";
import { type Bulk, isHead, sendPieces } from "../server/bulk.ts";
import type { App } from "../server/instance.ts";
import { Problem } from "../server/problems.ts";

/** The time that a stop gives a reader to receive the end of its stream. */
const END_MS = 500;

/** The streams of all listeners, with a limit for all together and one for each caller. */
export class LogStreams {
  readonly #most: number;
  readonly #limits: Limits;
  readonly #bulk: Bulk;
  readonly #open = new Map<AbortController, FastifyReply>();

  /** `most`: the limit for all together. */
  constructor(most: number, limits: Limits, bulk: Bulk) {
    this.#most = most;
    this.#limits = limits;
    this.#bulk = bulk;
  }

  get count(): number {
    return this.#open.size;
  }

  /** Must be called once for each listener. When it closes, the streams of all listeners end. */
  endWith(app: App): void {
    app.addHook("preClose", async () => this.#endAll());
  }

  /** Throws the problem if another stream would exceed a limit. */
  checkRoom(caller: string): void {
    if (this.#open.size >= this.#most) {
      const detail = `${this.#open.size} streams are open (limit ${this.#most}, MAPLEDGER_STREAMS_MAX)`;
      throw new Problem("too-many-streams", detail);
    }
    const own = this.countOf(caller);
    if (!isOver(this.#limits, "streams", caller, own, 1)) return;
    const extras = { errno: QUOTAS.streams.errno, quota: "streams" };
    const detail = `${caller} has ${own} streams open (limit ${this.#limits.streams}, ${QUOTAS.streams.variable})`;
    throw new Problem("too-many-streams", detail, extras);
  }

  /** The number of a caller's streams. */
  countOf(caller: string): number {
    return [...this.#open.values()].filter(({ request }) => request.caller === caller).length;
  }

  /**
   * Answers with the texts that `tell` yields, at the reader's pace. The signal is aborted when the reader is gone or
   * the service stops: `tell` must then return.
   */
  send(reply: FastifyReply, type: string, tell: (signal: AbortSignal) => AsyncIterable<string>): FastifyReply {
    this.checkRoom(reply.request.caller);
    if (isHead(reply.request)) return sendPieces(this.#bulk, reply, type, []);
    const ending = new AbortController();
    this.#open.set(ending, reply);
    const gone = (): void => {
      ending.abort();
      this.#open.delete(ending);
    };
    if (reply.raw.destroyed) gone();
    else reply.raw.once("close", gone);
    const headers = { "cache-control": "no-store", "x-accel-buffering": "no", connection: "close" };
    return sendPieces(this.#bulk, reply.headers(headers), type, tell(ending.signal));
  }

  #endAll(): void {
    for (const [ending, reply] of this.#open) {
      ending.abort();
      setTimeout(() => reply.raw.destroy(), END_MS).unref();
    }
  }
}
