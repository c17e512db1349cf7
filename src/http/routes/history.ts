import { Type } from "typebox";
import { CMD, cmdName } from "../../abi/service.ts";
import { readMoment } from "../../codec/moments.ts";
import { bytes } from "../../codec/scalars.ts";
import type { ElementVersion } from "../../engine/element_history.ts";
import type { Request } from "../../engine/engine.ts";
import { readRequests } from "../../engine/frames.ts";
import { MADE } from "../../engine/made.ts";
import { commandJson } from "../../log/command_json.ts";
import { timeText } from "../../log/event_json.ts";
import type { Outcome } from "../../syscall/outcome.ts";
import { problems, told } from "../answers.ts";
import { oneMap } from "../asked.ts";
import type { App, Parts, RouteOptions } from "../parts.ts";
import { failure, Problem, refused } from "../problems.ts";
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

/** A command that a restore sends. */
const Command = Type.Object(
  {
    cmd: Type.String(),
    map: nullable("integer", { description: "null: the one that is created." }),
    key: nullableHex(),
    value: nullableHex(),
    attr: nullable("object", { additionalProperties: true }),
  },
  { additionalProperties: false },
);

const COMMANDS_MAX = 1000;

const RESTORE_ERRNOS = ["ENOENT", "EINVAL", "EPERM", "EEXIST", "E2BIG", "ENOMEM", "EOPNOTSUPP", "EBADF"] as const;

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

/** What became of maps and their elements. */
export async function historyRoutes(app: App, { parts }: RouteOptions): Promise<void> {
  elementHistory(app, parts);
  diffMap(app, parts);
  restoreMap(app, parts);
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
        ...problems({}, "archived", "ENOENT", "EINVAL"),
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
        ...problems({}, "archived", "ENOENT", "EINVAL", "no-such-event"),
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

const REASON_LENGTH_MAX = 1000;
/** How often commands are worked out anew, where the map changes meanwhile. */
const TRIES = 5;

interface RestoreBody {
  readonly at: string | number;
  readonly dry_run?: boolean;
  readonly reason?: string;
  readonly session?: number;
}

function restoreMap(app: App, parts: Parts): void {
  const commandsMax = Math.min(parts.settings.pageElementsMax, COMMANDS_MAX);
  app.post("/maps/:map/restore", {
    schema: {
      operationId: "restoreMap",
      summary: "Bring a map back to an earlier moment",
      description:
        "By ordinary commands, which run as one: all of them, with nothing in between, or none. Each is an event with the " +
        "reason in its `attr`. With `dry_run` nothing is done, and the answer shows what would be. A map that has been freed " +
        "is created again, with another id, pinned where it was pinned then; `session` gets a descriptor of it. What an LRU " +
        "map would let go next is not brought back.",
      tags: TAGS,
      params: MapParams,
      body: Type.Object(
        {
          at: Type.Union([Type.Integer({ minimum: 0 }), Type.String()], {
            description: "A seq, or a time in RFC 3339.",
          }),
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
          additionalProperties: false,
          examples: [{ at: 17, reason: "the deploy of 12:00 emptied it", dry_run: true }],
        },
      ),
      response: {
        200: told(
          "What was done, or would be.",
          Type.Object({
            map: Type.Integer({ description: "The map that was to be brought back." }),
            at: seq(),
            dry_run: Type.Boolean(),
            reason: Type.String(),
            added: Type.Integer({ description: "Elements." }),
            changed: Type.Integer(),
            removed: Type.Integer(),
            commands: Type.Array(Command, { description: `The first ${commandsMax} of them.` }),
            command_count: Type.Integer(),
            first_seq: nullable("integer", { description: "The events that tell of it: the first, and the last." }),
            last_seq: nullable("integer"),
            created: nullable("object", {
              properties: { map_id: Type.Integer(), fd: nullable("integer") },
              required: ["map_id", "fd"],
              description: "The map that was created.",
            }),
          }),
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
        const { frames, length, now, counts, ...told } = oneMap(
          wellAsked(await parts.past.ask("restore", ask)),
          reference,
        );
        const requests = readRequests(frames, length);
        const commands = requests.slice(0, commandsMax).map((request) => commandJson(request));
        const answer = { ...told, dry_run: dry, reason, ...counts, commands, command_count: requests.length };
        if (dry || requests.length === 0) return { ...answer, first_seq: null, last_seq: null, created: null };
        const done = await parts.engine.query("whole", { frames, length, map: told.map, seq: now });
        if ("replies" in done)
          return { ...answer, ...eventsOf(done.replies), created: createdBy(requests, done.replies) };
        if ("failure" in done) throw failure(done);
        if ("refused" in done) throw refused(done, done.refused);
        if (tries === TRIES) throw new Problem("busy", `map ${told.map} is being changed: nothing was restored`);
      }
    },
  });
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

/** A string says what is wrong with the question. */
function wellAsked<Answer>(answer: Answer | string): Answer {
  if (typeof answer === "string") throw new Problem("EINVAL", answer, { errno: "EINVAL" });
  return answer;
}
