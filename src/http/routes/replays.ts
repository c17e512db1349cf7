import type { Readable } from "node:stream";
import { Type } from "typebox";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Settings } from "../../config.ts";
import type { Turns } from "../../engine/turn_queue.ts";
import { timeText } from "../../log/event_json.ts";
import { ApiTarget } from "../../replay/api_target.ts";
import { tooLarge } from "../../replay/bounds.ts";
import type { Difference } from "../../replay/compare.ts";
import { Ids } from "../../replay/ids.ts";
import { BadLine, readEventLines } from "../../replay/lines.ts";
import { Replay } from "../../replay/replay.ts";
import type { Selection } from "../../replay/selection.ts";
import { TargetFailed } from "../../replay/target.ts";
import type { Jobs } from "../jobs/jobs.ts";
import { OwnLogSource } from "../jobs/log_source.ts";
import { type OwnParts, OwnRequests } from "../jobs/own_requests.ts";
import { DIFFERENCES_MAX, type Job, type Replays, shortened, type TargetSpec } from "../jobs/replays.ts";
import { body, problems, told } from "../schemas/answers.ts";
import { CLOSED, EventLines, nullable, oneOf } from "../schemas/fields.ts";
import { refuseOthers } from "../server/bodies.ts";
import { type Bulk, sendList } from "../server/bulk.ts";
import type { Load } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON } from "../server/negotiation.ts";
import type { EngineDoor } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";
import { FilterFields, type FilterQuery, readFilter, referredMap } from "../views/event_filter.ts";
import { type LogParts, readPoint, seqBefore, seqBehind } from "../views/positions.ts";

const TAGS = ["replays"];
const SPEED_MIN = 0.001;
/** Of a line that is imported: what is done with its event besides reading it is done at once. */
const LINE_BYTES_MAX = 8 * 1024 * 1024;
const LF = 10;

const EXAMPLE_SUMMARY = {
  selected: 3,
  sent: { BPF_MAP_CREATE: 1, BPF_MAP_UPDATE_ELEM: 1, SESSION_OPEN: 1 },
  prepared: 0,
  implied: 0,
  left_out: [],
  compared: 3,
  differences: 1,
  free: 0,
  last_seq: 17,
};
const EXAMPLE_DIFFERENCE = {
  seq: 17,
  cmd: "BPF_MAP_UPDATE_ELEM",
  differs: ["ret", "errno"],
  recorded: { ret: 0, errno: null },
  got: { ret: -1, errno: "E2BIG", seq: 9 },
};
const EXAMPLE = {
  id: 1,
  caller: "anonymous",
  state: "done",
  target: "http://127.0.0.1:8621",
  speed: null,
  started_at: "2026-11-23T20:00:00.000000Z",
  ended_at: "2026-11-23T20:00:01.000000Z",
  progress: { done: 17, total: 17 },
  summary: EXAMPLE_SUMMARY,
  differences: [EXAMPLE_DIFFERENCE],
  detail: null,
};

const EVENT_LINE = `${JSON.stringify({
  seq: 1,
  time: "2026-11-23T20:00:00.000000Z",
  session: null,
  caller: "anonymous",
  peer: "127.0.0.1",
  cmd: "SESSION_OPEN",
  map: null,
  fd: null,
  key: null,
  value: null,
  flags: "0",
  ret: 0,
  errno: null,
  detail: null,
  attr: { name: "loader", ttl_ms: 600_000 },
  out: { session_id: 1 },
})}\n`;

const place = (name: string, minimum: number, description: string) =>
  Type.Optional(
    oneOf([Type.Integer({ minimum }), Type.String({ description: "A position." })], { $id: name, description }),
  );

const ReplayBody = Type.Object(
  {
    source: Type.Optional(
      Type.Object(
        {
          ...FilterFields,
          after: place("ReplayAfter", 0, "Behind this event: its seq, or a position in the log."),
          before: place("ReplayBefore", 1, "In front of this event: its seq, or a position in the log."),
        },
        {
          $id: "ReplaySource",
          ...CLOSED,
          description: "Which events of the log; all of them up to now unless given.",
        },
      ),
    ),
    target: oneOf(
      [
        Type.Object(
          {
            url: Type.String({
              description: "Of another mapledger: http or https.",
              examples: ["http://127.0.0.1:8621"],
            }),
            token: Type.Optional(Type.String({ description: "Its bearer token." })),
          },
          { $id: "OtherService", ...CLOSED },
        ),
        Type.Enum(["kernel"], { type: "string", description: "Maps of this machine's kernel, beside the mirror's." }),
      ],
      { $id: "ReplayTarget", description: "Another mapledger, or this machine's kernel." },
    ),
    speed: Type.Optional(
      Type.Number({
        minimum: SPEED_MIN,
        description: "A factor of the original speed; as fast as it goes unless given.",
      }),
    ),
    prepare: Type.Optional(
      Type.Boolean({ description: "Send what the selected commands need, too: what changed anything before them." }),
    ),
  },
  {
    $id: "StartReplayBody",
    ...CLOSED,
    examples: [{ source: { after: 100 }, target: { url: "http://127.0.0.1:8621" }, speed: 10 }],
  },
);

interface ReplayRequest {
  readonly source?: FilterQuery & { readonly after?: number | string; readonly before?: number | string };
  readonly target: { readonly url: string; readonly token?: string } | "kernel";
  readonly speed?: number;
  readonly prepare?: boolean;
}

const ReplayParams = Type.Object({ replay: Type.Integer({ minimum: 1, maximum: 2 ** 32 - 1, examples: [1] }) });

interface ReplayParts extends LogParts, Bulk, OwnParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly replays: Replays;
  readonly jobs: Jobs;
  readonly turns: Turns;
  readonly settings: Pick<Settings, "replayTargets">;
}

/** Recorded commands again: as jobs of the service's, and out of an export. */
export async function replayRoutes(app: App, options: RouteOptions<ReplayParts>): Promise<void> {
  options.parts.replays.endWith(app);
  startReplay(app, options);
  listReplays(app, options);
  getReplay(app, options);
  cancelReplay(app, options);
  await app.register(async (scope: App) => importEvents(scope, options));
}

function startReplay(app: App, { parts }: RouteOptions<ReplayParts>): void {
  app.post("/replays", {
    schema: {
      operationId: "startReplay",
      summary: "Replay a part of the log",
      description:
        "Sends recorded commands to another mapledger, or to the kernel, in their order, and holds each answer against the recorded one. The " +
        "replay runs inside the service. It goes only to targets that MAPLEDGER_REPLAY_TARGETS names: none, unless that is set.",
      tags: TAGS,
      body: ReplayBody,
      response: {
        201: told("It runs.", Type.Ref("Replay"), { ...EXAMPLE, state: "running", ended_at: null }),
        ...problems(
          { body: true },
          "target-not-named",
          "too-many-replays",
          "too-many-jobs",
          "archived",
          "foreign-position",
          "ENOENT",
          "EINVAL",
        ),
      },
    },
    handler: async ({ body, caller }, reply) => {
      const { source = {}, target, speed = null, prepare = false } = body as ReplayRequest;
      const spec = readTargetSpec(target);
      checkTarget(spec, parts.settings.replayTargets);
      const { after, before, ...query } = source;
      const filter = await readFilter(parts.engine, query);
      const map = referredMap(query, filter);
      const seqOf = (given: number | string, where: string, read: typeof seqBehind): number | Promise<number> =>
        typeof given === "number" ? given : read(parts, readPoint(given, where), map);
      const selection: Selection = {
        ...filter,
        ...(after !== undefined && { afterSeq: await seqOf(after, "source.after", seqBehind) }),
        ...(before !== undefined && { beforeSeq: await seqOf(before, "source.before", seqBefore) }),
      };
      const events = new OwnLogSource(parts.events, prepare ? {} : filter, await parts.events.lastSeq());
      parts.replays.checkRoom();
      parts.jobs.checkRoom(caller);
      const job = parts.replays.start({ caller, source: events, selection, target: spec, speed, prepare });
      reply.code(201).header("location", `/v1/replays/${job.id}`);
      return jobJson(job);
    },
  });
}

function readTargetSpec(target: ReplayRequest["target"]): TargetSpec {
  if (target === "kernel") return target;
  const { url: text, token } = target;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new InvalidInput("target.url", `a URL of http or https required, found ${JSON.stringify(text.slice(0, 40))}`);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw new InvalidInput("target.token", "a token has no spaces, and nothing beyond ASCII");
  return { url, token: token ?? null };
}

/** What no setting names is not contacted, so that an answer tells nothing of what stands there. */
function checkTarget(spec: TargetSpec, named: readonly string[]): void {
  const target = spec === "kernel" ? spec : spec.url.origin;
  if (!named.includes(target))
    throw new Problem("target-not-named", `MAPLEDGER_REPLAY_TARGETS does not name ${target}`);
}

const ReplayList = Type.Object({ replays: Type.Array(Type.Ref("Replay")) }, { $id: "ReplayList", ...CLOSED });

function listReplays(app: App, { parts }: RouteOptions<ReplayParts>): void {
  app.get("/replays", {
    schema: {
      operationId: "listReplays",
      summary: "List the replays that run, and the last that are over",
      tags: TAGS,
      response: {
        200: told("By id.", ReplayList, { replays: [EXAMPLE] }),
        ...problems({}),
      },
    },
    handler: (_request, reply) => sendList(parts, reply, "replays", parts.replays.all(), jobJson),
  });
}

function getReplay(app: App, { parts }: RouteOptions<ReplayParts>): void {
  app.get("/replays/:replay", {
    schema: {
      operationId: "getReplay",
      summary: "A replay",
      tags: TAGS,
      params: ReplayParams,
      response: {
        200: told("How far it is.", Type.Ref("Replay"), EXAMPLE),
        ...problems({}, "no-such-replay"),
      },
    },
    handler: async ({ params: { replay } }) => jobJson(parts.replays.get(replay)),
  });
}

function cancelReplay(app: App, { parts }: RouteOptions<ReplayParts>): void {
  app.delete("/replays/:replay", {
    schema: {
      operationId: "cancelReplay",
      summary: "Cancel a replay",
      description: "It ends behind the command that it is at. One that is over stays as it is.",
      tags: TAGS,
      params: ReplayParams,
      response: {
        200: told("It ends.", Type.Ref("Replay"), { ...EXAMPLE, state: "cancelled" }),
        ...problems({}, "no-such-replay"),
      },
    },
    handler: async ({ params: { replay } }) => jobJson(parts.replays.cancel(replay)),
  });
}

function importEvents(app: App, { parts }: RouteOptions<ReplayParts>): void {
  const { jobs, flight, turns } = parts;
  app.removeAllContentTypeParsers();
  refuseOthers(app, parts);
  // Read as it comes, and no faster than its commands run: its size has no limit.
  app.addContentTypeParser(NDJSON, (_request, payload, done) => done(null, payload));
  app.post("/replays/import", {
    config: { streamed: true },
    schema: {
      operationId: "importEvents",
      summary: "Run the commands of an export",
      description:
        "NDJSON as GET /v1/events exports it: its commands are run here, as the caller's own, in their order, and each answer is held " +
        `against the recorded one. A line that cannot be read ends it, as does one of more than ${LINE_BYTES_MAX} bytes, which \
\`mapledger import\` takes: the commands before it have run. A command that is too large to be sent in one go is left out, and an answer \
that is too long is not compared; \`left_out\` tells of both.`,
      tags: TAGS,
      body: { content: { [NDJSON]: { schema: body(EventLines, EVENT_LINE) } } },
      response: {
        200: told(
          `What came of it; the first ${DIFFERENCES_MAX} differences.`,
          Type.Object(
            { summary: Type.Ref("ReplaySummary"), differences: Type.Array(Type.Ref("Difference")) },
            { $id: "EventsImported", ...CLOSED },
          ),
          { summary: EXAMPLE_SUMMARY, differences: [EXAMPLE_DIFFERENCE] },
        ),
        ...problems({ body: true }, "too-many-jobs"),
      },
    },
    validatorCompiler: () => () => true,
    handler: async (request, reply) => {
      const differences: Difference[] = [];
      const { caller: name, scopes, limits, peer } = request;
      const over = jobs.beginImport(name);
      const own = new OwnRequests(app, parts, { name, scopes, ...(limits !== undefined && { limits }) }, peer);
      const pieces = counted(request.body as Readable, flight.loadOf(reply.raw));
      const reading = { bytesMax: LINE_BYTES_MAX, pause: () => turns.take() };
      const replay = new Replay({
        source: { extent: null, done: 0, read: () => readEventLines(pieces, reading) },
        target: new ApiTarget(own),
        ids: new Ids(),
        selection: {},
        prepare: false,
        pace: null,
        leaveOut: tooLarge,
        onDifference: (difference) => {
          if (differences.length < DIFFERENCES_MAX) differences.push(shortened(difference));
        },
      });
      try {
        return { summary: await replay.run(), differences };
      } catch (error) {
        throw stopped(error, replay.summary.last_seq);
      } finally {
        own.end();
        over();
      }
    },
  });
}

/** How far an import came that was broken off. */
function stopped(error: unknown, lastSeq: number): unknown {
  const far = `the commands before have run, up to event ${lastSeq}`;
  if (error instanceof BadLine) return new Problem("invalid-input", `${error.message}; ${far}`, { where: error.where });
  if (error instanceof TargetFailed) return new Problem("unavailable", `${error.message}; ${far}`);
  return error;
}

/** Bytes as they come; a line that has not come to its end is counted as in flight. */
async function* counted(stream: Readable, load: Load): AsyncIterable<Buffer> {
  let counted = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    load.take(piece.length);
    counted += piece.length;
    yield piece;
    // Whoever asks for more has done with the lines before.
    const begun = piece.length - 1 - piece.lastIndexOf(LF);
    if (begun === piece.length) continue;
    load.give(counted - begun);
    counted = begun;
  }
}

function jobJson(job: Job): object {
  const { id, spec, state, startedUs, endedUs, summary, differences, detail } = job;
  const { source, target, speed, caller } = spec;
  return {
    id,
    caller,
    state,
    target: target === "kernel" ? target : target.url.origin,
    speed,
    started_at: timeText(startedUs),
    ended_at: endedUs === null ? null : timeText(endedUs),
    progress: { done: source.done, total: source.extent?.total ?? null },
    summary,
    differences,
    detail,
  };
}

const SummarySchema = Type.Object(
  {
    selected: Type.Integer({ description: "Events that were selected." }),
    sent: Type.Unsafe({
      type: "object",
      additionalProperties: Type.Integer(),
      description: "Commands that were sent: how many, by name.",
    }),
    prepared: Type.Integer({ description: "Commands that were sent for the selected ones' sake." }),
    implied: Type.Integer({ description: "Descriptors that were closed by their session's end." }),
    left_out: Type.Array(
      Type.Object(
        { cmd: Type.String(), why: Type.String(), count: Type.Integer() },
        { $id: "LeftOutCommands", ...CLOSED },
      ),
    ),
    compared: Type.Integer(),
    differences: Type.Integer(),
    free: Type.Integer({ description: "Differences that a kernel is free to make." }),
    last_seq: Type.Integer({ description: "The last event that was done with." }),
  },
  { $id: "ReplaySummary", additionalProperties: false },
);

/** The outputs are those that differ: by the names of union bpf_attr, or as mapledger's own commands answer. */
const ReplayAnswer = Type.Object(
  {
    ret: Type.Integer(),
    errno: nullable("string"),
    ...Object.fromEntries(
      ["value", "next_key", "keys", "values", "out_batch", "info", "hash", "pathname"].map((name) => [
        name,
        Type.Optional(Type.String()),
      ]),
    ),
    ...Object.fromEntries(
      ["next_id", "count", "info_len", "memory"].map((name) => [name, Type.Optional(Type.Integer())]),
    ),
    freed: Type.Optional(Type.Array(Type.Integer())),
    more: Type.Optional(Type.Boolean()),
    seq: Type.Optional(Type.Integer({ description: "Of the target's event." })),
    refused: Type.Optional(Type.String({ description: "Why the target could not make sense of the command." })),
  },
  { $id: "ReplayAnswer", ...CLOSED, description: "ret, errno, and the outputs that differ; long ones are cut." },
);

const DifferenceSchema = Type.Object(
  {
    seq: Type.Integer({ description: "Of the recorded event." }),
    cmd: Type.String(),
    differs: Type.Array(Type.String(), { description: "ret, errno, order, or an output by its name." }),
    recorded: ReplayAnswer,
    got: ReplayAnswer,
    free: Type.Optional(Type.String({ description: "Why a kernel is free to answer otherwise." })),
  },
  { $id: "Difference", additionalProperties: false },
);

const ReplaySchema = Type.Object(
  {
    id: Type.Integer(),
    caller: Type.String(),
    state: Type.Enum(["running", "done", "failed", "cancelled"], { type: "string" }),
    target: Type.String(),
    speed: nullable("number"),
    started_at: Type.String({ format: "date-time" }),
    ended_at: nullable("string"),
    progress: Type.Object({ done: Type.Integer(), total: nullable("integer") }, { $id: "ReplayProgress", ...CLOSED }),
    summary: Type.Ref("ReplaySummary"),
    differences: Type.Array(Type.Ref("Difference"), { description: `The first ${DIFFERENCES_MAX} of them.` }),
    detail: nullable("string", { description: "Why it failed, and how far it came." }),
  },
  { $id: "Replay", additionalProperties: false },
);

export const REPLAY_SCHEMAS = [SummarySchema, DifferenceSchema, ReplaySchema] as const;
