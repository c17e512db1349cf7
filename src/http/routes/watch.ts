import { type TSchema, Type } from "typebox";
import { lines, messages, problems } from "../answers.ts";
import { askMap } from "../asked.ts";
import { EVENT_STREAM, FOLLOWED, inPieces, message } from "../messages.ts";
import { NDJSON, wants } from "../negotiate.ts";
import { type App, must, type RouteOptions } from "../parts.ts";
import { CLOSED, hex, MapParams, nullable, seq } from "../schemas.ts";
import { FROM_FIELDS, startAsked } from "../stream_start.ts";
import { readReference } from "../views.ts";
import { changes, elementsRequest, snapshot, type Told } from "../watch.ts";

const when = { seq: seq(), time: Type.String({ format: "date-time" }) };
const ends = Type.Object(when, CLOSED);

/** The data of each message. */
const TOLD: Readonly<Record<Told["event"], TSchema & { readonly properties: Record<string, TSchema> }>> = {
  begin: Type.Object({ seq: seq(), map: Type.Ref("Map") }, CLOSED),
  snapshot: Type.Object({ seq: seq(), key: hex(), value: hex() }, CLOSED),
  synced: Type.Object({ seq: seq() }, CLOSED),
  put: Type.Object({ ...when, key: hex(), value: hex() }, CLOSED),
  delete: Type.Object({ ...when, key: hex(), value: nullable("string") }, CLOSED),
  frozen: ends,
  freed: ends,
  ...FOLLOWED,
};

const LINE = Type.Union(
  Object.entries(TOLD).map(([event, { properties }]) =>
    Type.Object({ event: Type.Enum([event], { type: "string" }), ...properties }, CLOSED),
  ),
);

const EXAMPLES: readonly Told[] = [
  { event: "snapshot", data: { seq: 17, key: "01000000", value: "2a000000" } },
  { event: "synced", data: { seq: 17 }, id: 17 },
  {
    event: "put",
    data: { seq: 18, time: "2026-11-23T20:00:00.000000Z", key: "02000000", value: "2b000000" },
    id: 18,
  },
];

/** Maps, followed. */
export async function watchRoutes(app: App, { parts }: RouteOptions): Promise<void> {
  app.get("/maps/:map/watch", {
    schema: {
      operationId: "watchMap",
      summary: "Watch a map",
      description:
        "The map as it is at one seq, then what becomes of its elements: `begin`, a `snapshot` an element, `synced`; then a " +
        "`put` or a `delete` for each element that an event has changed, with the seq of the event, `frozen`, and `freed` at the " +
        "end. Between them `bookmark` and `lagging`, as when following the log. Keys and values are as pages of elements have " +
        "them. Behind Last-Event-ID or `after` without a snapshot: what has become of it since. Server-sent events; with " +
        "Accept: application/x-ndjson lines, with the message's name in `event`.",
      tags: ["maps"],
      params: MapParams,
      headers: FROM_FIELDS.headers,
      querystring: Type.Object(FROM_FIELDS.query),
      response: {
        200: {
          description: "The stream.",
          content: {
            [EVENT_STREAM]: messages(TOLD, EXAMPLES.map(asMessage).join("")),
            [NDJSON]: lines(LINE, EXAMPLES.map(asLine).join("")),
          },
        },
        ...problems({ command: true }, "too-many-streams", "archived", "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const { map: reference } = request.params;
      const map = await askMap(parts.engine, readReference(reference, "map"), reference);
      const start = await startAsked(request, parts.events);
      parts.streams.checkRoom(request.caller);
      const first = start === null ? await must(parts, reply, elementsRequest(map.id, request.caller)) : null;
      const whole = async function* (signal: AbortSignal): AsyncGenerator<Iterable<Told>> {
        if (first !== null) yield* snapshot(parts, map, request.caller, first);
        const seq = first?.seq ?? (start as number);
        if (first === null) yield [{ event: "bookmark", data: { seq }, id: seq }];
        yield* changes(parts, map, seq, signal);
      };
      if (wants(request.headers, NDJSON))
        return parts.streams.send(reply, NDJSON, (signal) => texts(whole(signal), asLine));
      return parts.streams.send(reply, EVENT_STREAM, (signal) => texts(whole(signal), asMessage));
    },
  });
}

async function* texts(told: AsyncIterable<Iterable<Told>>, write: (one: Told) => string): AsyncIterable<string> {
  for await (const some of told) yield* inPieces(written(some, write));
}

function* written(told: Iterable<Told>, write: (one: Told) => string): Iterable<string> {
  for (const one of told) yield write(one);
}

function asMessage({ event, data, id }: Told): string {
  return message(event, JSON.stringify(data), id);
}

function asLine({ event, data }: Told): string {
  return `${JSON.stringify({ event, ...data })}\n`;
}
