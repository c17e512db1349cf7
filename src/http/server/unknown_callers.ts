/** Counts and logs requests of unknown callers; `access.ts` has the refusals of known ones. */

import type { IncomingMessage } from "node:http";
import { UnknownCaller, type UnknownKind } from "./auth.ts";
import { clientAddress } from "./client_address.ts";

/** The most log lines in a second; the next line's `more` counts the other requests. */
const LINES_MAX = 5;
const SECOND_MS = 1000;
/** The most characters of a path in a log line. */
const PATH_MAX = 256;

type Warn = (fields: object, message: string) => void;

/** The requests of unknown callers: all are counted, and some logged. */
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
  /** Requests without a line, since the last line. */
  #more = 0;

  constructor(warn: Warn, nowMs = (): number => performance.now()) {
    this.#warn = warn;
    this.#nowMs = nowMs;
  }

  /** Calls `callerOf`, and counts the request if it throws UnknownCaller. */
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
    const { address, port } = clientAddress(socket);
    const peer = address === undefined ? "unix socket" : `${address} port ${port}`;
    const [path = ""] = url.split("?");
    const fields = { peer, kind, request: `${method} ${path.slice(0, PATH_MAX)}`, more: this.#more };
    this.#more = 0;
    this.#warn(fields, `refused an unknown caller: ${detail}`);
  }
}
