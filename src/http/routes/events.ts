import { Readable } from "node:stream";
import { Type } from "typebox";
import { ERRNO } from "../../abi/errno.ts";
import { CMD } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { readTimeUs } from "../../codec/moments.ts";
import { bytes } from "../../codec/scalars.ts";
import type { EventFilter, EventReader } from "../../engine/events.ts";
import type { EventRow } from "../../log/event.ts";
import { lines, problems, told } from "../answers.ts";
import { askMap } from "../asked.ts";
import { sendJson } from "../bulk.ts";
import { eventJson } from "../json.ts";
import { NDJSON, wants } from "../negotiate.ts";
import type { App, EngineDoor, RouteOptions } from "../parts.ts";
import { Problem } from "../problems.ts";
import { after, limit, nullable } from "../schemas.ts";
import { readReference } from "../views.ts";

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

const Query = Type.Object({
  map: Type.Optional(
    Type.String({ description: "A map's id; name:NAME or pinned:PATH of one that lives.", examples: ["1"] }),
  ),
  session: Type.Optional(Type.Integer({ minimum: 0, description: "0: commands of no session." })),
  caller: Type.Optional(Type.String()),
  cmd: Type.Optional(Type.String({ description: "A command's name or number.", examples: ["BPF_MAP_UPDATE_ELEM"] })),
  errno: Type.Optional(
    Type.String({ description: "An errno's name or number; 0 for what succeeded.", examples: ["ENOENT"] }),
  ),
  key: Type.Optional(Type.String({ description: "What the key begins with, in hex; of a batch, any of its keys." })),
  since: Type.Optional(
    Type.String({ description: "From this moment on, in RFC 3339.", examples: ["2026-11-23T20:00:00Z"] }),
  ),
  until: Type.Optional(Type.String({ description: "Up to this moment, itself included." })),
  after,
});

/** The log: every command that ever ran. */
export async function eventRoutes(app: App, options: RouteOptions): Promise<void> {
  listEvents(app, options);
  getEvent(app, options);
}

function listEvents(app: App, { parts: { engine, events, settings } }: RouteOptions): void {
  app.get("/events", {
    schema: {
      operationId: "listEvents",
      summary: "List events",
      description:
        "Ascending by seq; a page of large events has fewer than `limit`. With Accept: application/x-ndjson all of them up to now, an event a line.",
      tags: TAGS,
      querystring: Type.Object({ ...Query.properties, limit: limit(settings.pageElementsMax, PAGE_DEFAULT) }),
      response: {
        200: {
          ...told(
            "A page, or all events.",
            Type.Object({ events: Type.Array(Type.Ref("Event")), next: nullable("integer") }),
            { events: [EXAMPLE], next: 17 },
          ),
          content: {
            "application/json": {
              schema: Type.Object({
                events: Type.Array(Type.Ref("Event")),
                next: nullable("integer"),
              }),
              example: { events: [EXAMPLE], next: 17 },
            },
            [NDJSON]: lines(Type.Ref("Event"), `${JSON.stringify(EXAMPLE)}\n`),
          },
        },
        ...problems({}, "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const query = request.query as EventQuery;
      const filter = await readFilter(engine, query);
      if (wants(request.headers, NDJSON))
        return reply.type(NDJSON).send(Readable.from(eventLines(events, filter, await events.lastSeq())));
      const { rows, next } = await readPage(events, filter);
      return sendJson(reply, pageText(rows, next), bytesOf(rows));
    },
  });
}

function getEvent(app: App, { parts: { events } }: RouteOptions): void {
  app.get("/events/:seq", {
    schema: {
      operationId: "getEvent",
      summary: "An event",
      tags: TAGS,
      params: Type.Object({ seq: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER, examples: [17] }) }),
      response: { 200: told("The event.", Type.Ref("Event"), EXAMPLE), ...problems({}, "no-such-event") },
    },
    handler: async ({ params: { seq } }, reply) => {
      const row = await events.event(seq);
      if (row === null)
        throw new Problem("no-such-event", `there is no event ${seq}: the log ends at ${await events.lastSeq()}`);
      return reply.type("application/json; charset=utf-8").send(JSON.stringify(eventJson(row)));
    },
  });
}

interface EventQuery {
  readonly map?: string;
  readonly session?: number;
  readonly caller?: string;
  readonly cmd?: string;
  readonly errno?: string;
  readonly key?: string;
  readonly since?: string;
  readonly until?: string;
  readonly after: number;
  readonly limit: number;
}

async function readFilter(engine: EngineDoor, query: EventQuery): Promise<EventFilter> {
  const { map, session, caller, cmd, errno, key, since, until } = query;
  return {
    ...(map !== undefined && { map: await readMap(engine, map) }),
    ...(session !== undefined && { session }),
    ...(caller !== undefined && { caller }),
    ...(cmd !== undefined && { cmd: readNamed(CMD, cmd, "cmd") }),
    ...(errno !== undefined && { errno: readNamed(ERRNO, errno, "errno") }),
    ...(key !== undefined && { key: bytes(key, "key") }),
    ...(since !== undefined && { sinceUs: readTimeUs(since, "since") }),
    ...(until !== undefined && { untilUs: readTimeUs(until, "until") }),
    afterSeq: query.after,
    limit: query.limit,
  };
}

/** Ids stand for maps that are no more, too; names and pins for those that live. */
async function readMap(engine: EngineDoor, reference: string): Promise<number> {
  const asked = readReference(reference, "map");
  return "id" in asked ? asked.id : (await askMap(engine, asked, reference)).id;
}

function readNamed(names: Readonly<Record<string, number>>, given: string, where: string): number {
  if (Object.hasOwn(names, given)) return names[given] as number;
  if (/^-?\d{1,9}$/.test(given)) return Number(given);
  throw new InvalidInput(where, `a name or a number is needed, found ${JSON.stringify(given.slice(0, 40))}`);
}

/** At most `limit` events; fewer where they are large. */
async function readPage(events: EventReader, filter: EventFilter): Promise<{ rows: EventRow[]; next: number | null }> {
  const rows: EventRow[] = [];
  for (let afterSeq = filter.afterSeq; ; ) {
    const limit = Math.min(CHUNK_EVENTS, filter.limit - rows.length);
    const chunk = await events.query({ ...filter, afterSeq, limit });
    for (const row of chunk) rows.push(row);
    afterSeq = chunk.at(-1)?.seq ?? afterSeq;
    if (chunk.length === 0) return { rows, next: null };
    if (rows.length === filter.limit || bytesOf(rows) > PAGE_BYTES_MAX) return { rows, next: afterSeq };
  }
}

function bytesOf(rows: readonly EventRow[]): number {
  return rows.reduce((sum, { key, value }) => sum + (key?.length ?? 0) + (value?.length ?? 0), 0);
}

function* pageText(rows: readonly EventRow[], next: number | null): Iterable<string> {
  yield '{"events":[';
  for (const [at, row] of rows.entries()) yield `${at === 0 ? "" : ","}${JSON.stringify(eventJson(row))}`;
  yield `],"next":${next}}`;
}

/** All that match, chunk by chunk, up to the end that the log had when it was asked. */
async function* eventLines(events: EventReader, filter: EventFilter, lastSeq: number): AsyncIterable<string> {
  for (let afterSeq = filter.afterSeq; ; ) {
    const rows = await events.query({ ...filter, afterSeq, limit: CHUNK_EVENTS });
    for (const row of rows) {
      if (row.seq > lastSeq) return;
      yield `${JSON.stringify(eventJson(row))}\n`;
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < CHUNK_EVENTS) return;
    afterSeq = last.seq;
  }
}
