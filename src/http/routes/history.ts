import { Type } from "typebox";
import { cmdName } from "../../abi/service.ts";
import { readMoment } from "../../codec/moments.ts";
import { bytes } from "../../codec/scalars.ts";
import type { ElementVersion } from "../../engine/element_history.ts";
import { timeText } from "../../log/event_json.ts";
import { problems, told } from "../answers.ts";
import { oneMap } from "../asked.ts";
import type { App, Parts, RouteOptions } from "../parts.ts";
import { Problem } from "../problems.ts";
import { after, hex, Key, limit, MapParams, nullable, nullableHex, seq } from "../schemas.ts";
import { readReference } from "../views.ts";

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
    additionalProperties: false,
    description: "What an event made of an element; `value` null: it is gone from then on.",
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

/** What became of maps and their elements. */
export async function historyRoutes(app: App, { parts }: RouteOptions): Promise<void> {
  elementHistory(app, parts);
  diffMap(app, parts);
}

function elementHistory(app: App, { past, settings }: Parts): void {
  app.get("/maps/:map/elements/:key/history", {
    schema: {
      operationId: "elementHistory",
      summary: "An element's history",
      description:
        "Every version with the event that made it, ascending by seq; also of a map that has been freed, by its id. With " +
        "`before` the page that ends just below it. Elements of maps without keys go by the place that pages of them show.",
      tags: TAGS,
      params: Type.Object({ ...MapParams.properties, key: Key }),
      querystring: Type.Object({
        after,
        before: Type.Optional(
          Type.Integer({
            minimum: 1,
            maximum: Number.MAX_SAFE_INTEGER,
            description: "Versions below this seq, the last of them first to be found: the next page's `prev`.",
          }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: told(
          "A page.",
          Type.Object({
            map: Type.Integer(),
            versions: Type.Array(Version),
            next: nullable("integer", { description: "The next page's `after`; null at the end." }),
            prev: nullable("integer", { description: "The previous page's `before`; null at the beginning." }),
          }),
          { map: 1, versions: [VERSION_EXAMPLE], next: null, prev: null },
        ),
        ...problems({}, "ENOENT", "EINVAL"),
      },
    },
    handler: async (request) => {
      const { map: reference, key } = request.params as { map: string; key: string };
      const { after, before, limit } = request.query as { after: number; before?: number; limit: number };
      const place = before === undefined ? { after } : { before };
      const ask = {
        reference: readReference(reference, "map"),
        key: bytes(key, "key").toString("hex"),
        ...place,
        limit,
      };
      const { map, versions, older, newer } = oneMap(wellAsked(await past.ask("elementVersions", ask)), reference);
      return {
        map,
        versions: versions.map(versionJson),
        next: newer ? (versions.at(-1)?.seq ?? (before === undefined ? after : before - 1)) : null,
        prev: older ? (versions[0]?.seq ?? after + 1) : null,
      };
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

function diffMap(app: App, { past, settings }: Parts): void {
  const moment = (description: string, example: string) => Type.String({ description, examples: [example] });
  app.get("/maps/:map/diff", {
    schema: {
      operationId: "diffMap",
      summary: "What has changed in a map between two moments",
      description:
        "How many elements were added, changed and removed, and a page of them in the state's order. A map that was not " +
        "there at one of the moments had no elements then.",
      tags: TAGS,
      params: MapParams,
      querystring: Type.Object({
        from: moment("A seq, or a time in RFC 3339.", "17"),
        to: Type.Optional(moment("The same; left out: now.", "2026-11-23T20:00:00Z")),
        after: Type.Optional(Type.String({ description: "The last page's `next`, in hex.", examples: ["01000000"] })),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: told(
          "The changes.",
          Type.Object({
            map: Type.Integer(),
            from: seq(),
            to: seq(),
            added: Type.Integer(),
            changed: Type.Integer(),
            removed: Type.Integer(),
            changes: Type.Array(Type.Object({ key: hex(), before: nullableHex(), after: nullableHex() })),
            next: nullableHex(),
          }),
          DIFF_EXAMPLE,
        ),
        ...problems({}, "ENOENT", "EINVAL", "no-such-event"),
      },
    },
    handler: async (request) => {
      const { map: reference } = request.params;
      const { from, to, after, limit } = request.query as { from: string; to?: string; after?: string; limit: number };
      const ask = {
        reference: readReference(reference, "map"),
        from: readMoment(from, "from"),
        to: to === undefined ? null : readMoment(to, "to"),
        after: after === undefined ? null : bytes(after, "after").toString("hex"),
        limit,
      };
      const diff = oneMap(wellAsked(await past.ask("diff", ask)), reference);
      const { counts, changes, more, ...moments } = diff;
      return { ...moments, ...counts, changes, next: more ? (changes.at(-1)?.key ?? null) : null };
    },
  });
}

/** A string says what is wrong with the question. */
function wellAsked<Answer>(answer: Answer | string): Answer {
  if (typeof answer === "string") throw new Problem("EINVAL", answer, { errno: "EINVAL" });
  return answer;
}
