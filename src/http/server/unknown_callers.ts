import type { IncomingMessage } from "node:http";
import { UnknownCaller, type UnknownKind } from "./auth.ts";

/** Log lines a second; the rest are counted. */
const LINES_MAX = 5;
const SECOND_MS = 1000;
/** Bytes of a path that a line tells. */
const PATH_MAX = 256;

type Warn = (fields: object, message: string) => void;

/** Requests that were refused because nobody knows who sends them: all of them are counted, so many a second have a log line. */
export class UnknownCallers {
  readonly #warn: Warn;
  readonly #nowMs: () => number;
  readonly totals: Record<UnknownKind, number> = {
    no_token: 0,
    unknown_token: 0,
    unknown_uid: 0,
    unknown_certificate: 0,
  };
  #sinceMs = Number.NEGATIVE_INFINITY;
  #lines = 0;
  /** Refused without a line since the last one. */
  #more = 0;

  constructor(warn: Warn, nowMs = (): number => performance.now()) {
    this.#warn = warn;
    this.#nowMs = nowMs;
  }

  /** Answers what `callerOf` does; what it throws of an unknown caller is told of. */
  watch<Answer>(request: IncomingMessage, callerOf: (request: IncomingMessage) => Answer): Answer {
    try {
      return callerOf(request);
    } catch (error) {
      if (error instanceof UnknownCaller) this.#tell(error, request);
      throw error;
    }
  }

  #tell({ kind, detail }: UnknownCaller, { method, url = "", socket }: IncomingMessage): void {
    this.totals[kind]++;
    const nowMs = this.#nowMs();
    if (nowMs - this.#sinceMs >= SECOND_MS) {
      this.#sinceMs = nowMs;
      this.#lines = 0;
    }
    if (this.#lines >= LINES_MAX) {
      this.#more++;
      return;
    }
    this.#lines++;
    const { remoteAddress, remotePort } = socket;
    const peer = remoteAddress === undefined ? "unix socket" : `${remoteAddress} port ${remotePort}`;
    const [path = ""] = url.split("?");
    const fields = { peer, kind, request: `${method} ${path.slice(0, PATH_MAX)}`, more: this.#more };
    this.#more = 0;
    this.#warn(fields, `refused an unknown caller: ${detail}`);
  }
}
