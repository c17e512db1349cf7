import { errnoName } from "../abi/errno.ts";
import { cmdName } from "../abi/service.ts";
import type { EventRow } from "../log/event.ts";
import { timeText } from "../log/event_json.ts";
import { readEventLines } from "../replay/lines.ts";
import type { Selection } from "../replay/selection.ts";
import type { Source } from "../replay/source.ts";

/** The log of another mapledger, by the export of its API: what is selected is filtered there. */
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

  /** `selection`: what the other mapledger may leave out; {} asks it for everything. Throws where it does not answer. */
  static async open(url: URL, token: string | null, selection: Selection): Promise<UrlSource> {
    return new UrlSource(url, token, selection, await lastSeqOf(url, token));
  }

  async *read({ afterSeq = 0 }: Pick<Selection, "afterSeq">): AsyncIterable<EventRow> {
    const url = new URL("/v1/events", this.#url);
    url.search = queryOf({ ...this.#selection, afterSeq }).toString();
    const response = await get(url, this.#token, "application/x-ndjson");
    const text = response.body?.pipeThrough(new TextDecoderStream()) ?? new ReadableStream<string>();
    for await (const row of readEventLines(text)) {
      yield row;
      this.done = row.seq;
    }
  }
}

function queryOf({ map, session, caller, cmd, errno, key, sinceUs, untilUs, afterSeq }: Selection): URLSearchParams {
  const fields = {
    map,
    session,
    caller,
    cmd: cmd === undefined ? undefined : (cmdName(cmd) ?? cmd),
    errno: errno === undefined || errno === 0 ? errno : errnoName(errno),
    key: key?.toString("hex"),
    since: sinceUs === undefined ? undefined : timeText(sinceUs),
    until: untilUs === undefined ? undefined : timeText(untilUs),
    after: afterSeq,
  };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) query.set(name, String(value));
  return query;
}

/** As its metrics say it; null where they do not. */
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
