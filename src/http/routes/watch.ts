import type { Settings } from "../../config.ts";
import type { EventReader } from "../../engine/events.ts";
import { PositionWriter } from "../../log/position.ts";
import { WHOLE_MAP } from "../../syscall/elements.ts";
import { problems } from "../schemas/answers.ts";
import { CLOSED, hex, MapParams, type NamedObject, named, nullable, position, seq } from "../schemas/fields.ts";
import { FOLLOWED, linesOf, messagesOf } from "../schemas/messages.ts";
import { Type } from "../schemas/type.ts";
import { isHead } from "../server/bulk.ts";
import { must } from "../server/commands.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON, wants } from "../server/negotiation.ts";
import { inPieces } from "../server/pieces.ts";
import type { EngineDoor, PastDoor } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";
import { elementsRequest } from "../streams/element_pages.ts";
import { follow } from "../streams/follow.ts";
import type { LogStreams } from "../streams/log_streams.ts";
import { EVENT_STREAM } from "../streams/messages.ts";
import { ANEW_REASONS, freedSince, type ResumeParts, resumed } from "../streams/resumed_watch.ts";
import type { Reader } from "../streams/subject.ts";
import { snapshot, WATCH_FORMS, type WatchForm, type WatchMessage, watchSubject } from "../streams/watch.ts";
import { presentOf, type ReadParts } from "../views/as_of.ts";
import { askMap } from "../views/lookups.ts";
import { FROM_FIELDS, startAsked } from "../views/positions.ts";
import { sightOf } from "../views/sight.ts";
import { readReference } from "../views/targets.ts";

const when = { seq: seq(), time: Type.String({ format: "date-time" }) };
const ends = (name: string) => named(name, when);

const anew = nullable("object", {
  $id: "WatchAnew",
  properties: { reason: Type.Enum([...ANEW_REASONS], { type: "string" }), detail: Type.String() },
  required: ["reason", "detail"],
  ...CLOSED,
  description:
    "The reason why the watch does not continue after the given position, but shows the whole map; null: no position was given. In both cases, forget all that you know of the map.",
});

/** The data of each message. */
const DATA: Readonly<Record<WatchMessage["event"], NamedObject>> = {
  begin: named("WatchBegin", { seq: seq(), map: Type.Ref("BpfMap"), anew }),
  snapshot: named("WatchSnapshot", { seq: seq(), key: hex(), value: hex() }),
  synced: named("WatchSynced", { seq: seq() }),
  put: named("WatchPut", { ...when, key: hex(), value: hex() }),
  delete: named("WatchDelete", { ...when, key: hex(), value: nullable("string") }),
  frozen: ends("WatchFrozen"),
  freed: ends("WatchFreed"),
  ...FOLLOWED,
};

const MESSAGE = messagesOf("WatchMessage", "Watch", DATA);
const LINE = linesOf("WatchLine", "Watch", DATA, { position: position() });

const EXAMPLE = { seq: 18, time: "2026-11-23T20:00:00.000000Z", key: "02000000", value: "2b000000" };
const POSITION = "EitPf1x6LuAot08y0QAAAAAAEpHSB6o-ZAAAAAFb1Zk5";

interface WatchParts extends ReadParts, ResumeParts {
  readonly engine: EngineDoor;
  readonly past: PastDoor;
  readonly events: EventReader;
  readonly streams: LogStreams;
  readonly settings: Pick<Settings, "bookmarkSeconds" | "lagEventsMax">;
}

/** Watches of maps: all elements, then each change. */
export async function watchRoutes(app: App, { parts }: RouteOptions<WatchParts>): Promise<void> {
  app.get("/maps/:map/watch", {
    schema: {
      operationId: "watchMap",
      summary: "Watch a map",
      description:
        "Shows the map as it is at one seq, then each change of its elements. First `begin`, a `snapshot` for each element, and " +
        "`synced`. Then a `put` or a `delete` for each element that an event changes, with the seq of the event, `frozen`, and `freed` " +
        "at the end; between them `bookmark` and `lagging`, as in the stream of the log. Keys and values are those of pages of " +
        "elements. Each message has a position as its id, even if its event makes many changes; elements of a snapshot have " +
        "the id of `begin`. With Last-Event-ID or `after` the watch continues after that position, without a snapshot; if the map was " +
        "freed meanwhile, the watch shows the remaining changes and the end. If the position is not one in this log or is of another " +
        "map, or if archived events after it may have changed the map, the watch begins anew with `begin`, whose `anew` has the " +
        "reason. Server-sent events; with Accept: application/x-ndjson lines, with the message's name in `event` and its id in `position`.",
      tags: ["maps"],
      params: MapParams,
      headers: FROM_FIELDS.headers,
      querystring: Type.Object(FROM_FIELDS.query),
      response: {
        200: {
          description: "A stream of messages: the map's elements, then each change.",
          content: {
            [EVENT_STREAM]: { schema: MESSAGE, example: { event: "put", id: POSITION, data: EXAMPLE } },
            [NDJSON]: { schema: LINE, example: { event: "put", ...EXAMPLE, position: POSITION } },
          },
        },
        ...problems({ command: true }, "too-many-streams", "archived", "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const { map: shown } = request.params;
      const reference = readReference(shown, "map");
      const asked = startAsked(request);
      const map = await askMap(presentOf(parts, request), reference, shown).catch(async (problem: unknown) => {
        const isGone = problem instanceof Problem && problem.name === "ENOENT";
        const freed = isGone ? await freedSince(parts, request, reference, asked?.position ?? null) : null;
        if (freed === null) throw problem;
        return freed;
      });
      const sight = sightOf(parts, request);
      const start = asked === null ? null : await resumed(parts, { map, reference, shown }, asked);
      const watching = { map, writer: new PositionWriter(parts.ledger(), map.id) };
      const { streams } = parts;
      streams.checkRoom(request.caller);
      const [form, type] = wants(request.headers, NDJSON)
        ? ([WATCH_FORMS.lines, NDJSON] as const)
        : ([WATCH_FORMS.messages, EVENT_STREAM] as const);
      const subject = watchSubject(parts, watching, form, sight);
      const goOn = (from: { seq: number; told: number }, reader: Reader) =>
        follow(parts, streams.tails, subject, from, reader);
      if (start !== null && "after" in start)
        return streams.send(reply, type, async function* (reader) {
          const { seq, position, after, told } = start;
          yield* form.write({ event: "bookmark", data: { seq }, id: position });
          yield* goOn({ seq: after, told }, reader);
        });
      if (isHead(request)) return streams.send(reply, type, async function* () {});
      const first = await must(parts, reply, elementsRequest(map.id, request.caller, WHOLE_MAP));
      const mark = (await parts.events.mark(first.seq)) ?? 0;
      return streams.send(reply, type, async function* (reader) {
        const elements = snapshot(parts, reader.load, watching, request.caller, { anew: start, first, mark });
        for await (const some of elements) yield* inPieces(written(some, form));
        yield* goOn({ seq: first.seq, told: 0 }, reader);
      });
    },
  });
}

function* written(told: Iterable<WatchMessage>, { write }: WatchForm): Iterable<string> {
  for (const one of told) yield* write(one);
}
