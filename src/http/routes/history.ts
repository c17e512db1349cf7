import { cmdName } from "../../abi/service.ts";
import { readMoment } from "../../codec/moments.ts";
import { bytes } from "../../codec/scalars.ts";
import type { Settings } from "../../config.ts";
import type { EventReader } from "../../engine/events.ts";
import { timeText } from "../../log/event_json.ts";
import { PositionWriter } from "../../log/position.ts";
import type { ElementVersion } from "../../past/element_history.ts";
import { problems, told } from "../schemas/answers.ts";
import { CLOSED, hex, Key, limit, MapParams, nextPage, nullable, nullableHex, seq } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { type Bulk, sendList } from "../server/bulk.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { oneMap } from "../views/lookups.ts";
import { checkSeen, wellAsked } from "../views/past_answers.ts";
import {
  below,
  checkBehind,
  checkInFront,
  checkKeyPlace,
  type LogParts,
  markGiven,
  nextPlace,
  readKeyPlace,
  readPoint,
} from "../views/positions.ts";
import type { SightParts } from "../views/sight.ts";
import { readReference } from "../views/targets.ts";

const TAGS = ["history"];
const PAGE_DEFAULT = 100;

const Version = Type.Object(
  {
    seq: seq(),
    time: Type.String({ format: "date-time" }),
    session: nullable("integer"),
    caller: Type.String(),
    cmd: Type.String(),
    before: nullableHex(),
    value: nullableHex(),
  },
  {
    $id: "ElementVersion",
    ...CLOSED,
    description: "A version of an element, which an event made. `value` null: the event deleted it.",
  },
);

const VERSION_EXAMPLE = {
  seq: 17,
  time: "2026-11-23T20:00:00.000000Z",
  session: 1,
  caller: "anonymous",
  cmd: "BPF_MAP_UPDATE_ELEM",
  before: "29000000",
  value: "2a000000",
};

const DIFF_EXAMPLE = {
  map: 1,
  from: 17,
  to: 99,
  added: 0,
  changed: 1,
  removed: 0,
  changes: [{ key: "01000000", before: "29000000", after: "2a000000" }],
  next: null,
};

interface HistoryParts extends SightParts, LogParts, Bulk {
  readonly events: EventReader;
  readonly settings: Pick<Settings, "pageElementsMax">;
}

/** The versions of an element, and the differences of a map between two moments. */
export async function historyRoutes(app: App, { parts }: RouteOptions<HistoryParts>): Promise<void> {
  elementHistory(app, parts);
  diffMap(app, parts);
}

function elementHistory(app: App, parts: HistoryParts): void {
  const { past, settings } = parts;
  app.get("/maps/:map/elements/:key/history", {
    schema: {
      operationId: "elementHistory",
      summary: "List an element's versions",
      description:
        "Every version with the event that made it, ascending by seq; a page of large versions has fewer than `limit`. A freed map is " +
        "found by its id. Versions of archived events come from their archive, if it can be read: the first such request reads the " +
        "whole archive. With `before` the page ends right before it. Elements of maps without keys are named by the place that pages of " +
        "elements show.",
      tags: TAGS,
      params: Type.Object({ ...MapParams.properties, key: Key }),
      querystring: Type.Object({
        after: Type.Optional(
          Type.String({
            description: "Versions after this position or seq: the previous page's `next`.",
            examples: ["17"],
          }),
        ),
        before: Type.Optional(
          Type.String({
            description: "The last versions before this position or seq: `prev` of the page that follows.",
            examples: ["17"],
          }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: told(
          "A page of the element's versions, ascending by seq.",
          Type.Object(
            {
              map: Type.Integer(),
              versions: Type.Array(Version),
              next: nullable("string", { description: "The next page's `after`, a position; null at the end." }),
              prev: nullable("string", {
                description: "The previous page's `before`, a position; null at the beginning.",
              }),
              oldest_seq: nullable("integer", {
                description:
                  "Versions of events below this one may be missing here: they are archived, and their archive is not available. null: none is missing.",
              }),
            },
            { $id: "ElementHistory", ...CLOSED },
          ),
          { map: 1, versions: [VERSION_EXAMPLE], next: null, prev: null, oldest_seq: null },
        ),
        ...problems({}, "archived", "foreign-position", "ENOENT", "EINVAL"),
      },
    },
    handler: async (request, reply) => {
      const { map: reference, key } = request.params;
      const { after = "0", before, limit } = request.query;
      const point = before === undefined ? readPoint(after, "after") : readPoint(before, "before");
      const place = before === undefined ? { after: point.seq } : { before: below(point) };
      const meant = readReference(reference, "map");
      const ask = { reference: meant, key: bytes(key, "key").toString("hex"), ...place, limit };
      const answer = await past.ask("elementVersions", ask);
      await checkSeen(parts, request, "read", meant, answer);
      const { map, versions, older, newer, oldestSeq } = oneMap(wellAsked(answer), reference);
      await (before === undefined ? checkBehind : checkInFront)(parts, point, map);
      const writer = new PositionWriter(parts.ledger(), map);
      const [first, last] = [versions[0]?.seq, versions.at(-1)?.seq];
      const next = last ?? place.after ?? (place.before as number) - 1;
      const prev = first ?? place.after ?? 0;
      const mark = (seq: number): Promise<number> => markGiven(parts, seq);
      return sendList(parts, reply, "versions", versions, versionJson, {
        map,
        next: newer ? writer.at(next, await mark(next)) : null,
        prev: older ? writer[first === undefined ? "behind" : "at"](prev, await mark(prev)) : null,
        oldest_seq: oldestSeq,
      });
    },
  });
}

function versionJson({ seq, time_us, session, caller, cmd, before, value }: ElementVersion): object {
  return {
    seq,
    time: timeText(time_us),
    session: session === 0 ? null : session,
    caller,
    cmd: cmdName(cmd) ?? String(cmd),
    before,
    value,
  };
}

const Change = Type.Object(
  { key: hex(), before: nullableHex(), after: nullableHex() },
  { $id: "ElementChange", ...CLOSED },
);

function diffMap(app: App, parts: HistoryParts): void {
  const { past, settings } = parts;
  const moment = (description: string, example: string) => Type.String({ description, examples: [example] });
  app.get("/maps/:map/diff", {
    schema: {
      operationId: "diffMap",
      summary: "Compare a map at two moments",
      description:
        "Counts the elements that were added, changed and removed, and lists a page of them in the state's order; a page of large " +
        "elements has fewer than `limit`. A map that did not exist at one of the moments counts as empty then.",
      tags: TAGS,
      params: MapParams,
      querystring: Type.Object({
        from: moment("A seq, or a time in RFC 3339.", "17"),
        to: Type.Optional(moment("The same; left out: now.", "2026-11-23T20:00:00Z")),
        after: Type.Optional(
          Type.String({
            description: "The previous page's `next`, or a key in hex: the page begins after it.",
            examples: ["01000000"],
          }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: told(
          "Counts of the differences, and a page of them.",
          Type.Object(
            {
              map: Type.Integer(),
              from: seq(),
              to: seq(),
              added: Type.Integer(),
              changed: Type.Integer(),
              removed: Type.Integer(),
              changes: Type.Array(Change),
              next: nextPage(),
            },
            { $id: "MapDiff", ...CLOSED },
          ),
          DIFF_EXAMPLE,
        ),
        ...problems({}, "archived", "foreign-position", "ENOENT", "EINVAL", "no-such-event"),
      },
    },
    handler: async (request, reply) => {
      const { map: reference } = request.params;
      const { from, to, after, limit } = request.query;
      const asked = after === undefined ? null : readKeyPlace(parts, after, "after");
      const ask = {
        reference: readReference(reference, "map"),
        from: readMoment(from, "from"),
        to: to === undefined ? null : readMoment(to, "to"),
        after: asked?.key.toString("hex") ?? null,
        limit,
      };
      const ever = asked?.map == null ? null : await past.ask("ever", ask);
      const answer = await past.ask("diff", ask);
      await checkSeen(parts, request, "read", ask.reference, answer);
      if (ever !== null && "map" in ever) checkKeyPlace(asked, ever.map, "after");
      const diff = oneMap(wellAsked(answer), reference);
      const { counts, changes, more, ...moments } = diff;
      const last = more ? changes.at(-1)?.key : undefined;
      const next = last === undefined ? null : nextPlace(parts, diff.map, Buffer.from(last, "hex"));
      return sendList(parts, reply, "changes", changes, (change) => change, { ...moments, ...counts, next });
    },
  });
}
