/** Counts the streams that follow the log, limits their number, and ends them when the service stops. */

import type { OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { FastifyReply } from "fastify";
import { isOver, type Limits, QUOTAS } from "../../access/quotas.ts";
import { type Bulk, isHead, sendPieces } from "../server/bulk.ts";
import type { App } from "../server/instance.ts";
import { Problem } from "../server/problems.ts";
import { Outlet } from "./outlet.ts";
import { SharedTails } from "./shared_tails.ts";
import type { Reader } from "./subject.ts";

/** The time that a stop gives a reader to receive the end of its stream. */
const END_MS = 500;
const HEADERS = { "cache-control": "no-store", "x-accel-buffering": "no", connection: "close" };

/** The most streams that may be open at once, and the name of the setting or resource limit that says so. */
export interface StreamLimit {
  readonly most: number;
  readonly by: "MAPLEDGER_STREAMS_MAX" | "RLIMIT_NOFILE";
}

/** The streams of all listeners, with a limit for all together and one for each caller. */
export class LogStreams {
  readonly #limit: StreamLimit;
  readonly #limits: Limits;
  readonly #bulk: Bulk;
  readonly #open = new Map<AbortController, ServerResponse>();
  readonly #byCaller = new Map<string, number>();
  readonly tails: SharedTails;

  /** `limit`: for all streams together. */
  constructor(limit: StreamLimit, limits: Limits, bulk: Bulk) {
    this.#limit = limit;
    this.#limits = limits;
    this.#bulk = bulk;
    this.tails = new SharedTails(bulk.flight);
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
    const { most, by } = this.#limit;
    if (this.#open.size >= most)
      throw new Problem("too-many-streams", `${this.#open.size} streams are open (limit ${most}, ${by})`);
    const own = this.countOf(caller);
    if (!isOver(this.#limits, "streams", caller, own, 1)) return;
    const extras = { errno: QUOTAS.streams.errno, quota: "streams" };
    const detail = `${caller} has ${own} streams open (limit ${this.#limits.streams}, ${QUOTAS.streams.variable})`;
    throw new Problem("too-many-streams", detail, extras);
  }

  /** The number of a caller's streams. */
  countOf(caller: string): number {
    return this.#byCaller.get(caller) ?? 0;
  }

  /**
   * Answers with the texts that `tell` yields, at the reader's pace. Between two of them `tell` may write to the
   * reader's outlet itself. The signal is aborted when the reader is gone or the service stops: `tell` must then return.
   */
  async send(
    reply: FastifyReply,
    type: string,
    tell: (reader: Reader) => AsyncIterable<string>,
  ): Promise<FastifyReply> {
    const { raw, request } = reply;
    this.checkRoom(request.caller);
    if (isHead(request)) return sendPieces(this.#bulk, reply, type, []);
    const ending = new AbortController();
    this.#count(request.caller, 1);
    this.#open.set(ending, raw);
    const gone = (): void => {
      ending.abort();
      if (this.#open.delete(ending)) this.#count(request.caller, -1);
    };
    if (raw.destroyed) gone();
    else raw.once("close", gone);
    const reader = { outlet: new Outlet(raw), load: this.#bulk.flight.loadOf(raw), signal: ending.signal };
    const told = tell(reader)[Symbol.asyncIterator]();
    // Until the first text is there, an error is answered with its problem.
    const first = await told.next().catch((error) => {
      gone();
      throw error;
    });
    this.#bulk.flight.watchReader(raw);
    reply.hijack();
    raw.writeHead(200, { ...reply.getHeaders(), ...HEADERS, "content-type": type } as OutgoingHttpHeaders);
    raw.flushHeaders();
    this.#write(reader.outlet, told, first).then(
      () => raw.end(),
      (error) => {
        if (!raw.destroyed) request.log.error({ err: error }, "a stream has broken off");
        raw.destroy();
      },
    );
    return reply;
  }

  async #write(outlet: Outlet, told: AsyncIterator<string>, first: IteratorResult<string, unknown>): Promise<void> {
    for (let next = first; next.done !== true; next = await told.next()) {
      outlet.write(next.value);
      await outlet.free();
      await this.#bulk.turns.take();
      if (outlet.isGone) await told.return?.();
    }
  }

  #count(caller: string, more: number): void {
    const count = this.countOf(caller) + more;
    if (count === 0) this.#byCaller.delete(caller);
    else this.#byCaller.set(caller, count);
  }

  #endAll(): void {
    for (const [ending, raw] of this.#open) {
      ending.abort();
      setTimeout(() => raw.destroy(), END_MS).unref();
    }
  }
}
