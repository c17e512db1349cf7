import type { App } from "../../src/http/server/instance.ts";
import type { EventRow } from "../../src/log/event.ts";
import { ApiTarget, type Transport } from "../../src/replay/api_target.ts";
import type { Difference } from "../../src/replay/compare.ts";
import type { HttpRequest, HttpResponse } from "../../src/replay/http_call.ts";
import { Ids } from "../../src/replay/ids.ts";
import { Replay, type ReplayOptions } from "../../src/replay/replay.ts";
import type { Source } from "../../src/replay/source.ts";
import type { Summary } from "../../src/replay/summary.ts";
import type { Target } from "../../src/replay/target.ts";

/** Rows of a log in memory. */
export function sourceOf(rows: readonly EventRow[]): Source {
  return {
    extent: { total: rows.length, unit: "events" },
    done: 0,
    async *read({ afterSeq = 0 }) {
      for (const row of rows) if (row.seq > afterSeq) yield row;
    },
  };
}

/** Requests to an app that does not listen. */
export class Injected implements Transport {
  readonly #app: App;
  readonly requests: HttpRequest[] = [];

  constructor(app: App) {
    this.#app = app;
  }

  async send(request: HttpRequest): Promise<HttpResponse> {
    const { method, path, body, headers } = request;
    this.requests.push(request);
    const response = await this.#app.inject({ method, url: path, headers, ...(body !== null && { payload: body }) });
    return {
      status: response.statusCode,
      headers: Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)])),
      body: response.rawPayload,
    };
  }
}

export interface Replayed {
  readonly summary: Summary;
  readonly differences: readonly Difference[];
}

/** Replays rows into an app, all of them unless told otherwise, as fast as it goes. */
export function replayed(rows: readonly EventRow[], app: App, more: Partial<ReplayOptions> = {}): Promise<Replayed> {
  return replayedTo(new ApiTarget(new Injected(app)), rows, more);
}

export async function replayedTo(
  target: Target,
  rows: readonly EventRow[],
  more: Partial<ReplayOptions> = {},
): Promise<Replayed> {
  const differences: Difference[] = [];
  const replay = new Replay({
    source: sourceOf(rows),
    target,
    ids: new Ids(),
    selection: {},
    prepare: false,
    pace: null,
    onDifference: (difference) => differences.push(difference),
    ...more,
  });
  return { summary: await replay.run(), differences };
}
