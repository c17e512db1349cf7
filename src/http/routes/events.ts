import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import type { Settings } from "../../config.ts";
import { checkKept } from "../../engine/archives.ts";
import type { EventReader, MarkedRow } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import type { EventFilter } from "../../log/event_filter.ts";
import { PositionWriter } from "../../log/position.ts";
import { problems, told } from "../schemas/answers.ts";
import { CLOSED, EventLines, limit, nullable } from "../schemas/fields.ts";
import { FOLLOWED, messagesOf as messageSchema } from "../schemas/messages.ts";
import { type Bulk, sendJson, sendPieces } from "../server/bulk.ts";
import { type Load, SMALL_BYTES } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON, wants } from "../server/negotiation.ts";
import { inPieces } from "../server/pieces.ts";
import type { EngineDoor } from "../server/ports.ts";
import { archivedProblem, Problem } from "../server/problems.ts";
import { eventBytes, eventText } from "../streams/event_text.ts";
import { follow } from "../streams/follow.ts";
import type { LogStreams } from "../streams/log_streams.ts";
import { EVENT_STREAM, message, messageText } from "../streams/messages.ts";
import { presentOf, type StateParts } from "../views/as_of.ts";
import { FilterFields, type FilterQuery, readFilter, referredMap } from "../views/event_filter.ts";
import { SessionPeers } from "../views/peers.ts";
import {
  FROM_FIELDS,
  type LogParts,
  markGiven,
  readPoint,
  seqBefore,
  seqBehind,
  startAsked,
} from "../views/positions.ts";
import { eventsSeen } from "../views/sight.ts";

const TAGS = ["events"];
const PAGE_DEFAULT = 100;
/** Events that are read at once, and bytes of theirs after which a page ends before its limit: a batch's event may be large. */
const CHUNK_EVENTS = 64;
const PAGE_BYTES_MAX = 16 * 1024 * 1024;
/** Of an event beside its key and value, about. */
const ROW_BYTES = 256;

const EXAMPLE = {
  seq: 17,
  time: "2026-11-23T20:00:00.000000Z",
  session: 1,
  caller: "anonymous",
  peer: "127.0.0.1",
  cmd: "BPF_MAP_UPDATE_ELEM",
  map: 1,
  fd: 3,
  key: "01000000",
  value: "2a000000",
  flags: "0",
  ret: 0,
  errno: null,
  detail: null,
  attr: null,
  out: null,
  position: "ECtPf1x6LuAot08y0QAAAAAAEVw6keSyB4asdUk",
};

const Page = Type.Object(
  {
    events: Type.Array(Type.Ref("LogEvent")),
    next: nullable("string", { description: "The next page's `after`, a position; null at the end of the log." }),
    prev: nullable("string", { description: "The previous page's `before`, a position; null at its beginning." }),
    position: Type.String({
      description:
        "Up to here the page has looked, whether anything matched or not: whoever asks again goes on with it as `after`, also where `next` is null.",
    }),
    oldest_seq: Type.Integer({
      description: "The first event that is at hand: those below it are archived, and their archive is not there.",
    }),
  },
  { $id: "EventPage", ...CLOSED },
);
const PAGE_EXAMPLE = {
  events: [EXAMPLE],
  next: EXAMPLE.position,
  prev: null,
  position: EXAMPLE.position,
  oldest_seq: 1,
};
const EXPORT_HEADERS = {
  "mapledger-position": Type.String({
    description:
      "Of lines: where they end, the log's end when they were asked for; `after` it comes what was not there then.",
  }),
  "mapledger-oldest-seq": Type.Integer({ description: "Of lines: the log's beginning." }),
};

interface EventParts extends StateParts, LogParts, Bulk {
  readonly engine: Pick<EngineDoor, "query" | "seq" | "onGrowth">;
  readonly events: EventReader;
  readonly streams: LogStreams;
  readonly settings: Pick<Settings, "pageElementsMax" | "bookmarkSeconds" | "lagEventsMax">;
}

/** The log: every command that ever ran. */
export async function eventRoutes(app: App, { parts }: RouteOptions<EventParts>): Promise<void> {
  parts.streams.endWith(app);
  const peers = new SessionPeers(parts);
  listEvents(app, parts, peers);
  streamEvents(app, parts, peers);
  getEvent(app, parts, peers);
}

function listEvents(app: App, parts: EventParts, peers: SessionPeers): void {
  const { settings } = parts;
  app.get("/events", {
    schema: {
      operationId: "listEvents",
      summary: "List events",
      description:
        "Ascending by seq, from the oldest event that is at hand on; archived ones come from their archive. A page of large events has fewer than `limit`, and may have none, and a `next` to go on from, where few match. With `before` the page that ends just below it, " +
        "which for a seq beyond the log's end is the last. `after` and `before` are positions in this log, or seqs. With Accept: " +
        "application/x-ndjson all of them up to now, an event a line.",
      tags: TAGS,
      querystring: Type.Object({
        ...FilterFields,
        after: Type.Optional(
          Type.String({
            description:
              "Events behind this position or seq: the last page's `next` or `position`. Left out, or 0: all that there are.",
            examples: ["17"],
          }),
        ),
        before: Type.Optional(
          Type.String({
            description:
              "Events below this position or seq, the last of them first to be found: the next page's `prev`.",
            examples: ["17"],
          }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: {
          ...told("A page, or all events.", Page, PAGE_EXAMPLE),
          headers: EXPORT_HEADERS,
          content: {
            "application/json": { schema: Page, example: PAGE_EXAMPLE },
            [NDJSON]: { schema: EventLines, example: `${JSON.stringify(EXAMPLE)}\n` },
          },
        },
        ...problems({}, "archived", "foreign-position", "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const given = request.query as ListQuery;
      const filter = await readFilter(presentOf(parts, request), given);
      const events = eventsSeen(parts, request);
      const map = referredMap(given, filter);
      const query = await readRange(parts, given, map);
      const oldest = await events.oldestSeq();
      checkKept(oldest - 1, rangeOf(query));
      const writer = new PositionWriter(parts.ledger(), map);
      const last = Math.min(await events.lastSeq(), (query.before ?? Number.POSITIVE_INFINITY) - 1);
      if (wants(request.headers, NDJSON)) {
        const load = parts.flight.loadOf(reply.raw);
        const all = eventLines({ events, peers, writer }, load, filter, { after: query.after, last }, gone(reply));
        const end = Math.max(last, query.after);
        const headers = {
          "mapledger-oldest-seq": String(oldest),
          "mapledger-position": writer.at(end, await markGiven(parts, end)),
        };
        return sendPieces(parts, reply.headers(headers), NDJSON, all);
      }
      const load = parts.flight.loadOf(reply.raw);
      const taking: Taking = {
        count: (rows) => load.take(bytesOf(rows)),
        seesAll: request.limits === undefined,
      };
      const page =
        query.before === undefined
          ? await pageOn(events, filter, query, oldest, taking)
          : await pageBack(events, filter, query, last, oldest, taking);
      const text = pageText(page, writer, oldest, await peers.of(page.rows));
      return sendJson(parts, reply, text, bytesOf(page.rows));
    },
  });
}

function streamEvents(app: App, parts: EventParts, peers: SessionPeers): void {
  app.get("/events/stream", {
    schema: {
      operationId: "streamEvents",
      summary: "Follow the log",
      description:
        "Server-sent events: `event`, whose data is what GET /v1/events tells of it; `bookmark`, that " +
        "everything up to its seq has been looked at: at the beginning, and while there is nothing to tell each " +
        "MAPLEDGER_BOOKMARK seconds; `lagging`, where the reader stands more than MAPLEDGER_LAG_MAX events behind: it loses " +
        "nothing by that. Each has a position for an id. Begins with what comes next, or behind Last-Event-ID or `after`. A position that is not " +
        "one in this log is refused: 410, foreign-position.",
      tags: TAGS,
      headers: FROM_FIELDS.headers,
      querystring: Type.Object({ ...FilterFields, ...FROM_FIELDS.query }),
      response: {
        200: {
          description: "The stream.",
          content: {
            [EVENT_STREAM]: {
              schema: messageSchema("LogMessage", "Log", { event: Type.Ref("LogEvent"), ...FOLLOWED }),
              example: { event: "event", id: EXAMPLE.position, data: EXAMPLE },
            },
          },
        },
        ...problems({}, "too-many-streams", "archived", "foreign-position", "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const filter = await readFilter(presentOf(parts, request), request.query as FilterQuery);
      const asked = startAsked(request);
      const map = referredMap(request.query as FilterQuery, filter);
      const start = asked === null ? await parts.events.lastSeq() : await seqBehind(parts, asked, map);
      const writer = new PositionWriter(parts.ledger(), map);
      const begin = writer.at(start, await markGiven(parts, start));
      const seen = { ...parts, events: eventsSeen(parts, request), peers, writer };
      const load = parts.flight.loadOf(reply.raw);
      return parts.streams.send(reply, EVENT_STREAM, (signal) =>
        eventMessages(seen, load, filter, { seq: start, position: begin }, signal),
      );
    },
  });
}

function getEvent(app: App, parts: EventParts, peers: SessionPeers): void {
  app.get("/events/:seq", {
    schema: {
      operationId: "getEvent",
      summary: "An event",
      tags: TAGS,
      params: Type.Object({ seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [17] }) }),
      response: {
        200: told("The event.", Type.Ref("LogEvent"), EXAMPLE),
        ...problems({}, "no-such-event", "archived"),
      },
    },
    handler: async (request, reply) => {
      const { seq } = request.params;
      const events = eventsSeen(parts, request);
      const oldest = await events.oldestSeq();
      if (seq < oldest) throw archivedProblem(oldest);
      const row = await events.event(seq);
      if (row === null)
        throw new Problem("no-such-event", `there is no event ${seq}: the log ends at ${await events.lastSeq()}`);
      const bytes = bytesOf([row]);
      if (bytes > SMALL_BYTES) parts.flight.loadOf(reply.raw).take(bytes);
      const peerOf = await peers.of([row]);
      const writer = new PositionWriter(parts.ledger());
      return sendJson(parts, reply, eventText(row, writer.at(row.seq, row.mark), peerOf(row)), bytes);
    },
  });
}

interface ListQuery extends FilterQuery {
  readonly after?: string;
  readonly before?: string;
  readonly limit: number;
}

/** The same, in seqs. */
interface PageQuery {
  readonly after: number;
  readonly before?: number;
  readonly limit: number;
}

/** Behind seq 0 the log begins with what is not archived. */
async function readRange(
  parts: EventParts,
  { after = "0", before, limit }: ListQuery,
  map: number | null,
): Promise<PageQuery> {
  const from = readPoint(after, "after");
  const isAll = from.position === null && from.seq === 0;
  const range = { after: isAll ? 0 : await seqBehind(parts, from, map), limit };
  return before === undefined ? range : { ...range, before: await seqBefore(parts, readPoint(before, "before"), map) };
}

function rangeOf({ after, before }: PageQuery): { afterSeq: number; beforeSeq?: number } {
  return before === undefined ? { afterSeq: after } : { afterSeq: after, beforeSeq: before };
}

/** An event, and its mark. */
interface Spot {
  readonly seq: number;
  readonly mark: number;
}

interface Page {
  readonly rows: readonly MarkedRow[];
  readonly next: Spot | null;
  /** `behind`: of the event that follows the spot, which may not be there yet. */
  readonly prev: (Spot & { readonly behind?: true }) | null;
  readonly upTo: Spot;
}

/**
 * Reads of the log after which a page ends, however few events it has: such as have found fewer than were asked for, and all of a caller
 * who may see few of those that there are. Each looks at many events, or at an archive's segment.
 */
const READS_MAX = 16;

/** How a page is read. */
interface Taking {
  /** Told of events that are held for it. Throws the problem of too many bytes. */
  readonly count: (rows: readonly EventRow[]) => void;
  readonly seesAll: boolean;
}

/** At most `limit` events above `after`; fewer where they are large, or where the caller sees few. */
async function pageOn(
  events: EventReader,
  filter: EventFilter,
  { after, limit }: PageQuery,
  oldest: number,
  { count, seesAll }: Taking,
): Promise<Page> {
  const rows: MarkedRow[] = [];
  let bytes = 0;
  let at: Spot = { seq: after, mark: 0 };
  for (let reads = 0; ; ) {
    const most = Math.min(CHUNK_EVENTS, limit - rows.length);
    const chunk = await events.query(filter, { afterSeq: at.seq, limit: most });
    if (!seesAll || chunk.rows.length < most) reads++;
    count(chunk.rows);
    for (const row of chunk.rows) rows.push(row);
    bytes += bytesOf(chunk.rows);
    at = { seq: chunk.reached, mark: chunk.mark };
    const isFull = rows.length === limit || bytes > PAGE_BYTES_MAX || (chunk.more && reads >= READS_MAX);
    if (!isFull && chunk.more) continue;
    const prev = rows[0] ?? {
      seq: after,
      mark: after < oldest ? 0 : ((await events.mark(after)) ?? 0),
      behind: true as const,
    };
    return { rows, next: isFull ? at : null, prev: after < oldest ? null : prev, upTo: at };
  }
}

/** At most `limit` events below `before`, those next to it; `last` is the one in front of it, or the log's last. */
async function pageBack(
  events: EventReader,
  filter: EventFilter,
  { after, before, limit }: PageQuery,
  last: number,
  oldest: number,
  { count, seesAll }: Taking,
): Promise<Page> {
  const chunks: (readonly MarkedRow[])[] = [];
  let found = 0;
  let bytes = 0;
  let at = before as number;
  for (let reads = 0; ; ) {
    const most = Math.min(CHUNK_EVENTS, limit - found);
    const chunk = await events.query(filter, { afterSeq: after, beforeSeq: at, limit: most });
    if (!seesAll || chunk.rows.length < most) reads++;
    count(chunk.rows);
    chunks.push(chunk.rows);
    found += chunk.rows.length;
    bytes += bytesOf(chunk.rows);
    at = chunk.reached;
    const isFull = found === limit || bytes > PAGE_BYTES_MAX || (chunk.more && reads >= READS_MAX);
    if (!isFull && chunk.more) continue;
    const rows = chunks.reverse().flat();
    const isCut = isFull && at > Math.max(after + 1, oldest);
    const upTo = { seq: last, mark: (await events.mark(last)) ?? 0 };
    return { rows, next: rows.at(-1) ?? null, prev: isCut ? { seq: at, mark: chunk.mark } : null, upTo };
  }
}

function bytesOf(rows: readonly EventRow[]): number {
  return rows.reduce((sum, row) => sum + eventBytes(row) + ROW_BYTES, 0);
}

type PeerOf = Awaited<ReturnType<SessionPeers["of"]>>;

function* pageText(page: Page, writer: PositionWriter, oldest: number, peerOf: PeerOf): Iterable<string> {
  const { rows, next, prev, upTo } = page;
  yield '{"events":[';
  for (const [at, row] of rows.entries()) {
    if (at > 0) yield ",";
    yield* eventText(row, writer.at(row.seq, row.mark), peerOf(row));
  }
  const places = {
    next: next === null ? null : writer.at(next.seq, next.mark),
    prev: prev === null ? null : prev.behind ? writer.behind(prev.seq, prev.mark) : writer.at(prev.seq, prev.mark),
    position: writer.at(upTo.seq, upTo.mark),
    oldest_seq: oldest,
  };
  yield `],${JSON.stringify(places).slice(1)}`;
}

/** What events are told with. */
interface Telling {
  readonly peers: SessionPeers;
  readonly writer: PositionWriter;
}

/** Aborted when the reader of an answer has gone. */
function gone({ raw }: FastifyReply): AbortSignal {
  const ending = new AbortController();
  if (raw.destroyed) ending.abort();
  else raw.once("close", () => ending.abort());
  return ending.signal;
}

/** All that match up to `last`, chunk by chunk, as fast as they are taken. Where nothing does, nobody but the signal says when to end. */
async function* eventLines(
  { events, peers, writer }: Telling & { readonly events: EventReader },
  load: Load,
  filter: EventFilter,
  { after, last }: { readonly after: number; readonly last: number },
  signal: AbortSignal,
): AsyncIterable<string> {
  for (let at = after; at < last && !signal.aborted; ) {
    const { rows, reached, more } = await events.query(filter, { afterSeq: at, limit: CHUNK_EVENTS });
    load.hold(bytesOf(rows));
    yield* inPieces(linesOf(rows, last, writer, await peers.of(rows)));
    load.give(bytesOf(rows));
    if (!more) return;
    at = reached;
  }
}

function* linesOf(rows: readonly MarkedRow[], last: number, writer: PositionWriter, peerOf: PeerOf): Iterable<string> {
  for (const row of rows) {
    if (row.seq > last) return;
    yield* eventText(row, writer.at(row.seq, row.mark), peerOf(row));
    yield "\n";
  }
}

function* messagesOf(rows: readonly MarkedRow[], writer: PositionWriter, peerOf: PeerOf): Iterable<string> {
  for (const row of rows) {
    const position = writer.at(row.seq, row.mark);
    yield* messageText("event", eventText(row, position, peerOf(row)), position);
  }
}

async function* eventMessages(
  parts: EventParts & Telling,
  load: Load,
  filter: EventFilter,
  start: { readonly seq: number; readonly position: string },
  signal: AbortSignal,
): AsyncIterable<string> {
  const { peers, writer } = parts;
  yield message("bookmark", JSON.stringify({ seq: start.seq }), start.position);
  for await (const told of follow(parts, filter, start.seq, signal)) {
    switch (told.kind) {
      case "events":
        load.hold(bytesOf(told.rows));
        yield* inPieces(messagesOf(told.rows, writer, await peers.of(told.rows)));
        load.give(bytesOf(told.rows));
        break;
      case "bookmark":
        yield message("bookmark", JSON.stringify({ seq: told.seq }), writer.at(told.seq, told.mark));
        break;
      case "lagging":
        yield message("lagging", JSON.stringify({ at: told.at, last: told.last }), writer.at(told.at, told.mark));
        break;
    }
  }
}
