import type { FastifyRequest } from "fastify";
import { Type } from "typebox";
import { CMD, cmdName } from "../../abi/service.ts";
import type { MapScope } from "../../access/scopes.ts";
import { readMoment } from "../../codec/moments.ts";
import { bytes } from "../../codec/scalars.ts";
import type { Settings } from "../../config.ts";
import { MADE } from "../../engine/atomic_requests.ts";
import type { EventReader } from "../../engine/events.ts";
import { readRequests } from "../../engine/frames.ts";
import type { MapReference } from "../../engine/queries.ts";
import type { Request } from "../../engine/request.ts";
import { commandJson } from "../../log/command_json.ts";
import { timeText } from "../../log/event_json.ts";
import { PositionWriter } from "../../log/position.ts";
import type { ElementVersion } from "../../past/element_history.ts";
import type { RestoreCounts } from "../../past/restore.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { problems, told } from "../schemas/answers.ts";
import { EventAttr } from "../schemas/events.ts";
import { CLOSED, hex, Key, limit, MapParams, Moment, nextPage, nullable, nullableHex, seq } from "../schemas/fields.ts";
import { notDone } from "../server/access.ts";
import { type Bulk, sendList } from "../server/bulk.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { Problem, refused } from "../server/problems.ts";
import { oneMap } from "../views/lookups.ts";
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
import { type SightParts, sightOf } from "../views/sight.ts";
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

/** A command that a restore sends. */
const Command = Type.Object(
  {
    cmd: Type.String(),
    map: nullable("integer", { description: "null: the one that is created." }),
    key: nullableHex(),
    value: nullableHex(),
    attr: EventAttr,
  },
  { $id: "RestoreCommand", ...CLOSED },
);

const COMMANDS_MAX = 1000;
const KIB = 1024;
const COMMANDS_BYTES_MAX = 4 * 1024 * 1024;

const RESTORE_ERRNOS = [
  "ENOENT",
  "EINVAL",
  "EPERM",
  "EEXIST",
  "E2BIG",
  "EAGAIN",
  "EMFILE",
  "ENOMEM",
  "ENOSPC",
  "EOPNOTSUPP",
  "EBADF",
] as const;

const RESTORE_EXAMPLE = {
  map: 1,
  at: 17,
  dry_run: true,
  reason: "the deploy of 12:00 emptied it",
  added: 1,
  changed: 0,
  removed: 0,
  commands: [{ cmd: "BPF_MAP_UPDATE_BATCH", map: 1, key: "01000000", value: "2a000000", attr: { count: 1 } }],
  command_count: 1,
  first_seq: null,
  last_seq: null,
  created: null,
};

interface HistoryParts extends SightParts, LogParts, Bulk {
  readonly events: EventReader;
  readonly settings: Pick<Settings, "pageElementsMax" | "restoreElementsMax">;
}

/** What became of maps and their elements. */
export async function historyRoutes(app: App, { parts }: RouteOptions<HistoryParts>): Promise<void> {
  elementHistory(app, parts);
  diffMap(app, parts);
  restoreMap(app, parts);
}

function elementHistory(app: App, parts: HistoryParts): void {
  const { past, settings } = parts;
  app.get("/maps/:map/elements/:key/history", {
    schema: {
      operationId: "elementHistory",
      summary: "An element's history",
      description:
        "Every version with the event that made it, ascending by seq, fewer than `limit` where they are large; also of a map that has been freed, by its id. " +
        "Those of archived events come from their archive where that is at hand: the first such question reads all of it. With " +
        "`before` the page that ends just below it. Elements of maps without keys go by the place that pages of them show.",
      tags: TAGS,
      params: Type.Object({ ...MapParams.properties, key: Key }),
      querystring: Type.Object({
        after: Type.Optional(
          Type.String({
            description: "Versions behind this position or seq: the last page's `next`.",
            examples: ["17"],
          }),
        ),
        before: Type.Optional(
          Type.String({
            description:
              "Versions below this position or seq, the last of them first to be found: the next page's `prev`.",
            examples: ["17"],
          }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: told(
          "A page.",
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
                  "Versions of events below this one may be missing here: they are archived, and their archive is not at hand. null: none is missing.",
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
      const { map: reference, key } = request.params as { map: string; key: string };
      const { after = "0", before, limit } = request.query as { after?: string; before?: string; limit: number };
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
      summary: "What has changed in a map between two moments",
      description:
        "How many elements were added, changed and removed, and a page of them in the state's order, fewer than `limit` where they are large. A map that was not " +
        "there at one of the moments had no elements then.",
      tags: TAGS,
      params: MapParams,
      querystring: Type.Object({
        from: moment("A seq, or a time in RFC 3339.", "17"),
        to: Type.Optional(moment("The same; left out: now.", "2026-11-23T20:00:00Z")),
        after: Type.Optional(
          Type.String({ description: "The last page's `next`; or a key in hex.", examples: ["01000000"] }),
        ),
        limit: limit(settings.pageElementsMax, PAGE_DEFAULT),
      }),
      response: {
        200: told(
          "The changes.",
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
      const { from, to, after, limit } = request.query as { from: string; to?: string; after?: string; limit: number };
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

const REASON_LENGTH_MAX = 1000;
/** How often commands are worked out anew, where the map changes meanwhile. */
const TRIES = 5;

interface RestoreBody {
  readonly at: string | number;
  readonly dry_run?: boolean;
  readonly reason?: string;
  readonly session?: number;
}

function restoreMap(app: App, parts: HistoryParts): void {
  const commandsMax = Math.min(parts.settings.pageElementsMax, COMMANDS_MAX);
  app.post("/maps/:map/restore", {
    schema: {
      operationId: "restoreMap",
      summary: "Bring a map back to an earlier moment",
      description:
        "By ordinary commands, which run as one: all of them, with nothing in between, or none; so their number is bounded by a setting, MAPLEDGER_RESTORE_MAX. Each is an event with the " +
        "reason in its `attr`. With `dry_run` nothing is done, and the answer shows what would be. A map that has been freed " +
        "is created again, with another id, pinned where it was pinned then; `session` gets a descriptor of it. What an LRU " +
        "map would let go next is not brought back.",
      tags: TAGS,
      params: MapParams,
      body: Type.Object(
        {
          at: Moment,
          dry_run: Type.Optional(Type.Boolean({ default: false })),
          reason: Type.Optional(
            Type.String({ maxLength: REASON_LENGTH_MAX, default: "", description: "For those who read the log." }),
          ),
          session: Type.Optional(
            Type.Integer({
              minimum: 1,
              maximum: 2 ** 32 - 2,
              description: "Gets a descriptor, if the map is created.",
            }),
          ),
        },
        {
          $id: "RestoreMapBody",
          ...CLOSED,
          examples: [{ at: 17, reason: "the deploy of 12:00 emptied it", dry_run: true }],
        },
      ),
      response: {
        200: told(
          "What was done, or would be.",
          Type.Object(
            {
              map: Type.Integer({ description: "The map that was to be brought back." }),
              at: seq(),
              dry_run: Type.Boolean(),
              reason: Type.String(),
              added: Type.Integer({ description: "Elements." }),
              changed: Type.Integer(),
              removed: Type.Integer(),
              commands: Type.Array(Command, {
                description: `The first ${commandsMax} of them, and of their bytes 4 MiB.`,
              }),
              command_count: Type.Integer(),
              first_seq: nullable("integer", { description: "The events that tell of it: the first, and the last." }),
              last_seq: nullable("integer"),
              created: nullable("object", {
                $id: "CreatedMap",
                properties: { map_id: Type.Integer(), fd: nullable("integer") },
                required: ["map_id", "fd"],
                ...CLOSED,
                description: "The map that was created; null: none was.",
              }),
            },
            { $id: "MapRestored", ...CLOSED },
          ),
          RESTORE_EXAMPLE,
        ),
        ...problems({ command: true, body: true }, ...RESTORE_ERRNOS, "archived", "no-such-event"),
      },
    },
    handler: async (request) => {
      const { map: reference } = request.params;
      const { at, dry_run: dry = false, reason = "", session = null } = request.body as RestoreBody;
      const ask = {
        reference: readReference(reference, "map"),
        at: readMoment(String(at), "at"),
        reason,
        caller: request.caller,
        session,
      };
      for (let tries = 1; ; tries++) {
        const planned = await parts.past.ask("restore", ask);
        await checkSeen(parts, request, "write", ask.reference, planned);
        const { frames, length, now, counts, ...told } = oneMap(wellAsked(planned), reference);
        const requests = readRequests(frames, length);
        const commands = firstOf(requests, commandsMax).map((request) => commandJson(request));
        const answer = { ...told, dry_run: dry, reason, ...counts, commands, command_count: requests.length };
        if (!dry) checkSize(counts, length, parts.settings.restoreElementsMax);
        if (dry || requests.length === 0) return { ...answer, first_seq: null, last_seq: null, created: null };
        const { limits } = request;
        const asking = { peer: request.peer, ...(limits !== undefined && { limits: limits.id }) };
        const done = await parts.engine.query("whole", { frames, length, map: told.map, seq: now, ...asking });
        if ("replies" in done)
          return { ...answer, ...eventsOf(done.replies), created: createdBy(requests, done.replies) };
        if ("failure" in done) throw notDone(parts, request, request, done);
        if ("refused" in done) throw refused(done, done.refused);
        if (tries === TRIES) throw new Problem("busy", `map ${told.map} is being changed: nothing was restored`);
      }
    },
  });
}

/** It is one moment, for which everybody waits; `bytes`: of its commands. */
function checkSize({ added, changed, removed }: RestoreCounts, bytes: number, most: number): void {
  const elements = added + changed + removed;
  if (elements <= most && bytes <= most * KIB) return;
  const allowed = `${most} elements, and a KiB for each, that MAPLEDGER_RESTORE_MAX allows`;
  const detail = `${elements} elements are to be restored by commands of ${bytes} bytes: more than the ${allowed}`;
  throw new Problem("E2BIG", detail, { errno: "E2BIG" });
}

/** At most so many, and not more than can be told of. */
function firstOf(requests: readonly Request[], most: number): readonly Request[] {
  let bytes = 0;
  const end = requests.findIndex((request, at) => {
    const { key, value } = request as { key?: Buffer | null; value?: Buffer | null };
    bytes += (key?.length ?? 0) + (value?.length ?? 0);
    return at === most || bytes > COMMANDS_BYTES_MAX;
  });
  return end === -1 ? requests : requests.slice(0, end);
}

function eventsOf(replies: readonly { readonly seq: number }[]): object {
  return { first_seq: replies[0]?.seq ?? null, last_seq: replies.at(-1)?.seq ?? null };
}

/** The map that was created, and the descriptor that the session that was named got of it. */
function createdBy(requests: readonly Request[], replies: readonly { readonly outcome: Outcome }[]): object | null {
  const made = replies.findLast((_, at) => requests[at]?.cmd === CMD.BPF_MAP_CREATE);
  if (made === undefined) return null;
  const opened = replies.find(
    (_, at) => requests[at]?.cmd === CMD.BPF_MAP_GET_FD_BY_ID && requests[at].session !== MADE,
  );
  return { map_id: made.outcome.out?.map_id, fd: opened?.outcome.ret ?? null };
}

type PastAnswer = null | string | { readonly map: number } | { readonly ambiguous: readonly number[] };

/** Throws the problem of a caller who may not see what was found, whatever was found of it. */
async function checkSeen(
  parts: HistoryParts,
  request: FastifyRequest,
  scope: MapScope,
  reference: MapReference,
  answer: PastAnswer,
): Promise<void> {
  const sight = sightOf(parts, request);
  if (sight === null) return;
  // Of a map that was found, the answer tells only what is wrong with the question.
  const maps =
    typeof answer === "string"
      ? idsOf(await parts.past.ask("ever", { reference }))
      : answer === null
        ? []
        : idsOf(answer);
  await sight.checkReference(scope, reference, maps);
}

function idsOf(answer: Exclude<PastAnswer, string>): readonly number[] {
  if (answer === null) return [];
  return "ambiguous" in answer ? answer.ambiguous : [answer.map];
}

/** A string says what is wrong with the question. */
function wellAsked<Answer>(answer: Answer | string): Answer {
  if (typeof answer === "string") throw new Problem("EINVAL", answer, { errno: "EINVAL" });
  return answer;
}
