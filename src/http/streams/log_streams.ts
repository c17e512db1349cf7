import type { FastifyReply } from "fastify";
import { isOver, type Limits, QUOTAS } from "../../access/quotas.ts";
import { type Bulk, isHead, sendPieces } from "../server/bulk.ts";
import type { App } from "../server/instance.ts";
import { Problem } from "../server/problems.ts";

/** How long a stop waits for a reader to take the end of its stream. */
const END_MS = 500;

/** The streams that follow the log, over all listeners of the service: so many in all and a caller; none outlives it. */
export class LogStreams {
  readonly #most: number;
  readonly #limits: Limits;
  readonly #bulk: Bulk;
  readonly #open = new Map<AbortController, FastifyReply>();

  /** `most`: in all. */
  constructor(most: number, limits: Limits, bulk: Bulk) {
    this.#most = most;
    this.#limits = limits;
    this.#bulk = bulk;
  }

  get count(): number {
    return this.#open.size;
  }

  /** To be called once for each listener: when it closes, all streams end. */
  endWith(app: App): void {
    app.addHook("preClose", async () => this.#endAll());
  }

  /** Throws the problem of one stream too many. */
  checkRoom(caller: string): void {
    if (this.#open.size >= this.#most)
      throw new Problem("too-many-streams", `${this.#open.size} streams are open (MAPLEDGER_STREAMS_MAX)`);
    const own = this.countOf(caller);
    if (!isOver(this.#limits, "streams", caller, own, 1)) return;
    const extras = { errno: QUOTAS.streams.errno, quota: "streams" };
    throw new Problem("too-many-streams", `${caller} has ${own} streams open (${QUOTAS.streams.variable})`, extras);
  }

  /** Those of a caller. */
  countOf(caller: string): number {
    return [...this.#open.values()].filter(({ request }) => request.caller === caller).length;
  }

  /**
   * Answers with what `tell` yields, as fast as the reader takes it. The signal is aborted when the reader is gone or the
   * service stops: then `tell` is to return.
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
