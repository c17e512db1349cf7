import type { FastifyReply } from "fastify";
import type { Settings } from "../../config.ts";
import { checkKept } from "../../engine/archives.ts";
import type { EventReader } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import { PositionWriter } from "../../log/position.ts";
import { problems, told } from "../schemas/answers.ts";
import { CLOSED, EventLines, limit, nullable } from "../schemas/fields.ts";
import { FOLLOWED, messagesOf as messageSchema } from "../schemas/messages.ts";
import { Type } from "../schemas/type.ts";
import { type Bulk, sendJson, sendPieces } from "../server/bulk.ts";
import { SMALL_BYTES } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON, wants } from "../server/negotiation.ts";
import type { EngineDoor } from "../server/ports.ts";
import { archivedProblem, Problem } from "../server/problems.ts";
import { bytesOf, type PageQuery, pageText, readPage, readPageQuery } from "../streams/event_pages.ts";
import { eventLines, eventMessages, eventSubject } from "../streams/event_streams.ts";
import { eventText } from "../streams/event_text.ts";
import type { LogStreams } from "../streams/log_streams.ts";
import { EVENT_STREAM } from "../streams/messages.ts";
import { presentOf, type StateParts } from "../views/as_of.ts";
import { FilterFields, readFilter, referredMap } from "../views/event_filter.ts";
import { SessionPeers } from "../views/peers.ts";
import { FROM_FIELDS, type LogParts, markGiven, seqBehind, startAsked } from "../views/positions.ts";
import { eventsSeen, sightOf } from "../views/sight.ts";

const TAGS = ["events"];
const PAGE_DEFAULT = 100;

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
    prev: nullable("string", {
      description: "The previous page's `before`, a position; null at the beginning of the log.",
    }),
    position: Type.String({
      description:
        "The page has looked at everything up to this position. Use it as `after` to go on, also if `next` is null.",
    }),
    oldest_seq: Type.Integer({
      description: "The first event that can be read: earlier ones are archived, and their archive is not available.",
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
      "With lines: the position up to which the log was read: its end at the time of the request, or the event before `before`. Use it as `after` for later events.",
  }),
  "mapledger-oldest-seq": Type.Integer({ description: "With lines: the first event that can be read." }),
};

interface EventParts extends StateParts, LogParts, Bulk {
  readonly engine: Pick<EngineDoor, "query" | "seq" | "onGrowth">;
  readonly events: EventReader;
  readonly streams: LogStreams;
  readonly settings: Pick<Settings, "pageElementsMax" | "bookmarkSeconds" | "lagEventsMax">;
}

/** The log: pages of events, exports, single events, and a stream of new ones. */
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
        "Ascending by seq, from the oldest event that can be read; archived events come from their archive. A page of large events has " +
        "fewer than `limit`. If few events match, a page may be empty, with a `next` to go on from. With `before` the page ends right " +
        "before it; if `before` is a seq beyond the log's end, it is the last page. `after` and `before` are positions in this log, " +
        "or seqs. With Accept: application/x-ndjson the answer has all events up to now, one a line.",
      tags: TAGS,
      querystring: Type.Object({
        ...FilterFields,
        after: Type.Optional(
          Type.String({
            description:
              "Events after this position or seq: `next` or `position` of the previous page. Left out, or 0: from the first event that can be read.",
            examples: ["17"],
          }),
        ),
        before: Type.Optional(
          Type.String({
            description: "The last events before this position or seq: `prev` of the page that follows.",
            examples: ["17"],
          }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: {
          ...told("A page of events, or all events, one a line.", Page, PAGE_EXAMPLE),
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
      const filter = await readFilter(presentOf(parts, request), request.query);
      const events = eventsSeen(parts, request);
      const map = referredMap(request.query, filter);
      const query = await readPageQuery(parts, request.query, map);
      const oldest = await events.oldestSeq();
      checkKept(oldest - 1, rangeOf(query));
      const writer = new PositionWriter(parts.ledger(), map);
      const last = Math.min(await events.lastSeq(), (query.before ?? Number.POSITIVE_INFINITY) - 1);
      const load = parts.flight.loadOf(reply.raw);
      if (wants(request.headers, NDJSON)) {
        const all = eventLines({ events, peers, writer }, load, filter, { after: query.after, last }, gone(reply));
        const end = Math.max(last, query.after);
        const headers = {
          "mapledger-oldest-seq": String(oldest),
          "mapledger-position": writer.at(end, await markGiven(parts, end)),
        };
        return sendPieces(parts, reply.headers(headers), NDJSON, all);
      }
      const reading = {
        count: (rows: readonly EventRow[]) => load.take(bytesOf(rows)),
        seesAll: request.limits === undefined,
      };
      const page = await readPage(events, filter, query, { last, oldest }, reading);
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
        "Server-sent events. `event` has the event as GET /v1/events shows it. `bookmark` says that the stream has looked at " +
        "everything up to its seq: at the beginning, and every MAPLEDGER_BOOKMARK seconds while nothing matches. `lagging` says that " +
        "the reader is more than MAPLEDGER_LAG_MAX events behind; it loses nothing by that. Each message has a position as its id. The " +
        "stream begins with the next event, or after Last-Event-ID or `after`. A position that is not one in this log is refused with " +
        "410, foreign-position.",
      tags: TAGS,
      headers: FROM_FIELDS.headers,
      querystring: Type.Object({ ...FilterFields, ...FROM_FIELDS.query }),
      response: {
        200: {
          description: "A stream of the events that match, as server-sent events.",
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
      const filter = await readFilter(presentOf(parts, request), request.query);
      const asked = startAsked(request);
      const map = referredMap(request.query, filter);
      const start = asked === null ? await parts.events.lastSeq() : await seqBehind(parts, asked, map);
      const writer = new PositionWriter(parts.ledger(), map);
      const begin = writer.at(start, await markGiven(parts, start));
      const seen = { events: eventsSeen(parts, request), peers, writer };
      const subject = eventSubject(seen, filter, map, sightOf(parts, request)?.key ?? null);
      return parts.streams.send(reply, EVENT_STREAM, (reader) =>
        eventMessages(parts, subject, { seq: start, position: begin }, reader, parts.streams.tails),
      );
    },
  });
}

function getEvent(app: App, parts: EventParts, peers: SessionPeers): void {
  app.get("/events/:seq", {
    schema: {
      operationId: "getEvent",
      summary: "Get an event",
      tags: TAGS,
      params: Type.Object({ seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [17] }) }),
      response: {
        200: told("The event with its outcome and its position in the log.", Type.Ref("LogEvent"), EXAMPLE),
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

function rangeOf({ after, before }: PageQuery): { afterSeq: number; beforeSeq?: number } {
  return before === undefined ? { afterSeq: after } : { afterSeq: after, beforeSeq: before };
}

/** A signal that is aborted when the reader of an answer has closed the connection. */
function gone({ raw }: FastifyReply): AbortSignal {
  const ending = new AbortController();
  if (raw.destroyed) ending.abort();
  else raw.once("close", () => ending.abort());
  return ending.signal;
}
