/** Attached streams: an answer that stays open until its session ends, with a line that says so every ten seconds. */

import { PassThrough } from "node:stream";
import type { App } from "../server/instance.ts";

/** The time between two lines. */
export const HEARTBEAT_MS = 10_000;

/** The open attached streams of one listener. When the listener closes, they end without a last line. */
export class AttachedStreams {
  readonly #bySession = new Map<number, Set<PassThrough>>();
  closing = false;

  constructor(app: App) {
    app.addHook("preClose", async () => {
      this.closing = true;
      for (const streams of this.#bySession.values()) for (const stream of streams) stream.end();
    });
  }

  open(session: number, lives: () => Promise<boolean>): PassThrough {
    const stream = new PassThrough();
    const streams = this.#bySession.get(session) ?? new Set();
    this.#bySession.set(session, streams.add(stream));
    const attached = `${JSON.stringify({ session, attached: true })}\n`;
    stream.write(attached);
    const beat = setInterval(async () => {
      if (await lives().catch(() => false)) stream.write(attached);
      else this.#end(session, stream);
    }, HEARTBEAT_MS);
    stream.once("close", () => {
      clearInterval(beat);
      streams.delete(stream);
      if (streams.size === 0) this.#bySession.delete(session);
    });
    return stream;
  }

  /** Ends the streams of a session that has ended, with a last line that says so. */
  endOf(session: number): void {
    for (const stream of this.#bySession.get(session) ?? []) this.#end(session, stream);
  }

  #end(session: number, stream: PassThrough): void {
    if (!stream.writableEnded) stream.end(`${JSON.stringify({ session, attached: false })}\n`);
  }
}
