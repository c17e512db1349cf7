import { Readable } from "node:stream";
import { Type } from "typebox";
import { checkKept } from "../../engine/archives.ts";
import type { EventReader } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import { eventJson } from "../../log/event_json.ts";
import { lines, messages, problems, told } from "../answers.ts";
import { archivedProblem } from "../archived.ts";
import { sendJson } from "../bulk.ts";
import { FilterFields, type FilterQuery, readFilter } from "../event_filter.ts";
import { follow } from "../follow.ts";
import { EVENT_STREAM, FOLLOWED, inPieces, message } from "../messages.ts";
import { NDJSON, wants } from "../negotiate.ts";
import type { App, Parts, RouteOptions } from "../parts.ts";
import { Problem } from "../problems.ts";
import { after, limit, nullable } from "../schemas.ts";
import { FROM_FIELDS, readStart } from "../stream_start.ts";

const TAGS = ["events"];
const PAGE_DEFAULT = 100;
/** Events that are read at once, and bytes of theirs after which a page ends before its limit: a batch's event may be large. */
const CHUNK_EVENTS = 64;
const PAGE_BYTES_MAX = 16 * 1024 * 1024;

const EXAMPLE = {
  seq: 17,
  time: "2026-11-23T20:00:00.000000Z",
  session: 1,
  caller: "anonymous",
  cmd: "BPF_MAP_UPDATE_ELEM",
  map: 1,
  fd: 3,
  key: "01000000",
  value: "2a000000",
  flags: 0,
  ret: 0,
  errno: null,
  detail: null,
  attr: null,
  out: null,
};

const Page = Type.Object({
  events: Type.Array(Type.Ref("Event")),
  next: nullable("integer", { description: "The next page's `after`; null at the end of the log." }),
  prev: nullable("integer", { description: "The previous page's `before`; null at its beginning." }),
  oldest_seq: Type.Integer({ description: "The log's beginning: events below this one are archived." }),
});
const PAGE_EXAMPLE = { events: [EXAMPLE], next: 17, prev: null, oldest_seq: 1 };

/** The log: every command that ever ran. */
export async function eventRoutes(app: App, { parts }: RouteOptions): Promise<void> {
  parts.streams.endWith(app);
  listEvents(app, parts);
  streamEvents(app, parts);
  getEvent(app, parts);
}

function listEvents(app: App, { engine, events, settings }: Parts): void {
  app.get("/events", {
    schema: {
      operationId: "listEvents",
      summary: "List events",
      description:
        "Ascending by seq, from the oldest event that is not archived on; a page of large events has fewer than `limit`. With `before` the page that ends just below it, " +
        "which for a seq beyond the log's end is the last. With Accept: application/x-ndjson all of them up to now, an " +
        "event a line.",
      tags: TAGS,
      querystring: Type.Object({
        ...FilterFields,
        after,
        before: Type.Optional(
          Type.Integer({
            minimum: 1,
            maximum: Number.MAX_SAFE_INTEGER,
            description: "Events below this seq, the last of them first to be found: the next page's `prev`.",
          }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: {
          ...told("A page, or all events.", Page, PAGE_EXAMPLE),
          content: {
            "application/json": { schema: Page, example: PAGE_EXAMPLE },
            [NDJSON]: lines(Type.Ref("Event"), `${JSON.stringify(EXAMPLE)}\n`),
          },
        },
        ...problems({}, "archived", "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const query = request.query as PageQuery;
      const filter = await readFilter(engine, query);
      const oldest = await events.oldestSeq();
      checkKept(oldest - 1, rangeOf(query));
      if (wants(request.headers, NDJSON)) {
        const last = Math.min(await events.lastSeq(), (query.before ?? Number.POSITIVE_INFINITY) - 1);
        const all = eventLines(events, filter, query.after, last);
        return reply
          .type(NDJSON)
          .header("mapledger-oldest-seq", String(oldest))
          .send(Readable.from(all, { highWaterMark: 1 }));
      }
      const page =
        query.before === undefined
          ? await pageOn(events, filter, query, oldest)
          : await pageBack(events, filter, query, oldest);
      return sendJson(reply, pageText(page, oldest), bytesOf(page.rows));
    },
  });
}

function streamEvents(app: App, parts: Parts): void {
  app.get("/events/stream", {
    schema: {
      operationId: "streamEvents",
      summary: "Follow the log",
      description:
        "Server-sent events: `event`, whose id is its seq and whose data is what GET /v1/events tells of it; `bookmark`, that " +
        "everything up to its id has been looked at: at the beginning, and while there is nothing to tell each " +
        "MAPLEDGER_BOOKMARK seconds; `lagging`, where the reader stands more than MAPLEDGER_LAG_MAX events behind: it loses " +
        "nothing by that. Begins with what comes next, or behind Last-Event-ID or `after`.",
      tags: TAGS,
      headers: FROM_FIELDS.headers,
      querystring: Type.Object({ ...FilterFields, ...FROM_FIELDS.query }),
      response: {
        200: {
          description: "The stream.",
          content: {
            [EVENT_STREAM]: messages(
              { event: Type.Ref("Event"), ...FOLLOWED },
              message("bookmark", '{"seq":16}', 16) + message("event", JSON.stringify(EXAMPLE), EXAMPLE.seq),
            ),
          },
        },
        ...problems({}, "too-many-streams", "archived", "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const filter = await readFilter(parts.engine, request.query as FilterQuery);
      const start = await readStart(request, parts.events);
      return parts.streams.send(reply, EVENT_STREAM, (signal) => eventMessages(parts, filter, start, signal));
    },
  });
}

function getEvent(app: App, { events }: Parts): void {
  app.get("/events/:seq", {
    schema: {
      operationId: "getEvent",
      summary: "An event",
      tags: TAGS,
      params: Type.Object({ seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [17] }) }),
      response: { 200: told("The event.", Type.Ref("Event"), EXAMPLE), ...problems({}, "no-such-event", "archived") },
    },
    handler: async ({ params: { seq } }, reply) => {
      const oldest = await events.oldestSeq();
      if (seq < oldest) throw archivedProblem(oldest);
      const row = await events.event(seq);
      if (row === null)
        throw new Problem("no-such-event", `there is no event ${seq}: the log ends at ${await events.lastSeq()}`);
      return reply.type("application/json; charset=utf-8").send(JSON.stringify(eventJson(row)));
    },
  });
}

interface PageQuery extends FilterQuery {
  readonly after: number;
  readonly before?: number;
  readonly limit: number;
}

function rangeOf({ after, before }: PageQuery): { afterSeq: number; beforeSeq?: number } {
  return before === undefined ? { afterSeq: after } : { afterSeq: after, beforeSeq: before };
}

interface Page {
  readonly rows: readonly EventRow[];
  readonly next: number | null;
  readonly prev: number | null;
}

/** At most `limit` events above `after`; fewer where they are large. */
async function pageOn(
  events: EventReader,
  filter: EventFilter,
  { after, limit }: PageQuery,
  oldest: number,
): Promise<Page> {
  const rows: EventRow[] = [];
  for (let at = after; ; ) {
    const chunk = await events.query(filter, { afterSeq: at, limit: Math.min(CHUNK_EVENTS, limit - rows.length) });
    for (const row of chunk.rows) rows.push(row);
    at = chunk.reached;
    const isFull = rows.length === limit || bytesOf(rows) > PAGE_BYTES_MAX;
    if (isFull || !chunk.more)
      return { rows, next: isFull ? at : null, prev: after < oldest ? null : (rows[0]?.seq ?? after + 1) };
  }
}

/** At most `limit` events below `before`, those next to it. */
async function pageBack(
  events: EventReader,
  filter: EventFilter,
  { after, before, limit }: PageQuery,
  oldest: number,
): Promise<Page> {
  let rows: EventRow[] = [];
  for (let at = before as number; ; ) {
    const rest = Math.min(CHUNK_EVENTS, limit - rows.length);
    const chunk = await events.query(filter, { afterSeq: after, beforeSeq: at, limit: rest });
    rows = [...chunk.rows, ...rows];
    at = chunk.reached;
    const isFull = rows.length === limit || bytesOf(rows) > PAGE_BYTES_MAX;
    if (isFull || !chunk.more)
      return { rows, next: rows.at(-1)?.seq ?? null, prev: isFull && at > Math.max(after + 1, oldest) ? at : null };
  }
}

function bytesOf(rows: readonly EventRow[]): number {
  return rows.reduce((sum, { key, value }) => sum + (key?.length ?? 0) + (value?.length ?? 0), 0);
}

function* pageText({ rows, next, prev }: Page, oldest: number): Iterable<string> {
  yield '{"events":[';
  for (const [at, row] of rows.entries()) yield `${at === 0 ? "" : ","}${JSON.stringify(eventJson(row))}`;
  yield `],"next":${next},"prev":${prev},"oldest_seq":${oldest}}`;
}

/** All that match up to `last`, chunk by chunk, as fast as they are taken. */
async function* eventLines(
  events: EventReader,
  filter: EventFilter,
  after: number,
  last: number,
): AsyncIterable<string> {
  for (let at = after; at < last; ) {
    const { rows, reached, more } = await events.query(filter, { afterSeq: at, limit: CHUNK_EVENTS });
    yield* inPieces(linesOf(rows, last));
    if (!more) return;
    at = reached;
  }
}

function* linesOf(rows: readonly EventRow[], last: number): Iterable<string> {
  for (const row of rows) if (row.seq <= last) yield `${JSON.stringify(eventJson(row))}\n`;
}

async function* eventMessages(
  parts: Parts,
  filter: EventFilter,
  start: number,
  signal: AbortSignal,
): AsyncIterable<string> {
  yield message("bookmark", JSON.stringify({ seq: start }), start);
  for await (const told of follow(parts, filter, start, signal)) {
    switch (told.kind) {
      case "events":
        yield* inPieces(told.rows.map((row) => message("event", JSON.stringify(eventJson(row)), row.seq)));
        break;
      case "bookmark":
        yield message("bookmark", JSON.stringify({ seq: told.seq }), told.seq);
        break;
      case "lagging":
        yield message("lagging", JSON.stringify({ at: told.at, last: told.last }));
        break;
    }
  }
}
