import { errnoName } from "../abi/errno.ts";
import { cmdName } from "../abi/service.ts";
import type { EventRow } from "../log/event.ts";
import { timeText } from "../log/event_json.ts";
import { readEventLines } from "../replay/lines.ts";
import type { Selection } from "../replay/selection.ts";
import type { Source } from "../replay/source.ts";

/** A seq after every event. */
const END = Number.MAX_SAFE_INTEGER;

interface EventsPage {
  readonly events: readonly { readonly seq: number }[];
  readonly next: string | null;
  readonly prev: string | null;
}

/** The log of another mapledger, read by the export of its API. The other mapledger filters the events. */
export class UrlSource implements Source {
  readonly extent: Source["extent"];
  done = 0;
  readonly #url: URL;
  readonly #token: string | null;
  readonly #selection: Selection;

  private constructor(url: URL, token: string | null, selection: Selection, lastSeq: number | null) {
    this.#url = url;
    this.#token = token;
    this.#selection = selection;
    this.extent = lastSeq === null ? null : { total: lastSeq, unit: "events" };
  }

  /**
   * `selection`: the filter that the other mapledger applies; {}: all events. Throws an Error if it does not answer.
   */
  static async open(url: URL, token: string | null, selection: Selection): Promise<UrlSource> {
    return new UrlSource(url, token, selection, await lastSeqOf(url, token));
  }

  async between(
    sinceUs: number | undefined,
    untilUs: number | undefined,
  ): Promise<{ readonly after: number; readonly until: number }> {
    const since = sinceUs === undefined ? undefined : await this.#found({ since: timeText(sinceUs), after: 0 });
    const until = untilUs === undefined ? undefined : await this.#found({ until: timeText(untilUs), before: END });
    return {
      after: sinceUs === undefined ? 0 : (since ?? END) - 1,
      until: untilUs === undefined ? END : (until ?? 0),
    };
  }

  /**
   * The seq of the first matching event if `query` has `after`, of the last one if it has `before`; undefined if the other
   * mapledger shows this caller none.
   */
  async #found(query: Readonly<Record<string, string | number>>): Promise<number | undefined> {
    const url = new URL("/v1/events", this.#url);
    const asked = Object.entries({ ...query, limit: 1 }).map(([name, value]): [string, string] => [
      name,
      String(value),
    ]);
    url.search = new URLSearchParams(asked).toString();
    const page = (await (await get(url, this.#token, "application/json")).json()) as EventsPage;
    const [event] = page.events;
    const [name, next] = "after" in query ? (["after", page.next] as const) : (["before", page.prev] as const);
    return event === undefined && next !== null ? this.#found({ ...query, [name]: next }) : event?.seq;
  }

  async check(position: string): Promise<void> {
    const url = new URL("/v1/events", this.#url);
    url.search = new URLSearchParams({ after: position, limit: "1" }).toString();
    await (await get(url, this.#token, "application/json")).arrayBuffer();
  }

  async *read({ afterSeq = 0 }: Pick<Selection, "afterSeq">): AsyncIterable<EventRow> {
    // No event can follow this seq, so nothing is requested.
    if (afterSeq >= END - 1) return;
    const url = new URL("/v1/events", this.#url);
    url.search = queryOf({ ...this.#selection, afterSeq }).toString();
    const response = await get(url, this.#token, "application/x-ndjson");
    const pieces = response.body ?? new ReadableStream<Uint8Array>();
    for await (const row of readEventLines(pieces)) {
      yield row;
      this.done = row.seq;
    }
  }
}

function queryOf(selection: Selection): URLSearchParams {
  const { map, session, caller, cmd, errno, changed, failed, key, sinceUs, untilUs, afterSeq } = selection;
  const fields = {
    map,
    session,
    caller,
    cmd: cmd === undefined ? undefined : (cmdName(cmd) ?? cmd),
    errno: errno === undefined || errno === 0 ? errno : errnoName(errno),
    changes: changed,
    failed,
    key: key?.toString("hex"),
    since: sinceUs === undefined ? undefined : timeText(sinceUs),
    until: untilUs === undefined ? undefined : timeText(untilUs),
    after: afterSeq,
  };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value));
  return query;
}

/** The last seq in the service's metrics; null if they do not have it. */
async function lastSeqOf(url: URL, token: string | null): Promise<number | null> {
  const response = await get(new URL("/metrics", url), token, "text/plain");
  const [, seq] = /^mapledger_log_seq (\d+)$/m.exec(await response.text()) ?? [];
  return seq === undefined ? null : Number(seq);
}

async function get(url: URL, token: string | null, accept: string): Promise<Response> {
  const headers = token === null ? { accept } : { accept, authorization: `Bearer ${token}` };
  const response = await fetch(url, { headers }).catch((error: Error) => {
    const why = error.cause instanceof Error ? error.cause.message : error.message;
    throw new Error(`reading ${url.origin}: ${why}`);
  });
  if (response.ok) return response;
  throw new Error(`reading ${url.origin}: it answers ${response.status} ${(await response.text()).slice(0, 300)}`);
}
