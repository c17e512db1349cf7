import type { Readable } from "node:stream";
import { Type } from "typebox";
import { InvalidInput } from "../../codec/invalid.ts";
import { timeText } from "../../log/event_json.ts";
import { ApiTarget } from "../../replay/api_target.ts";
import type { Difference } from "../../replay/compare.ts";
import { Ids } from "../../replay/ids.ts";
import { BadLine, readEventLines } from "../../replay/lines.ts";
import { Replay } from "../../replay/replay.ts";
import type { Selection } from "../../replay/selection.ts";
import { TargetFailed } from "../../replay/target.ts";
import { body, lines, problems, told } from "../answers.ts";
import { FilterFields, type FilterQuery, readFilter } from "../event_filter.ts";
import { OwnLogSource } from "../log_source.ts";
import { NDJSON } from "../negotiate.ts";
import { OwnRequests } from "../own_requests.ts";
import type { App, RouteOptions } from "../parts.ts";
import { Problem } from "../problems.ts";
import { DIFFERENCES_MAX, type Job, type TargetSpec } from "../replays.ts";
import { nullable } from "../schemas.ts";

const TAGS = ["replays"];
const SPEED_MIN = 0.001;

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
  cmd: "SESSION_OPEN",
  map: null,
  fd: null,
  key: null,
  value: null,
  flags: 0,
  ret: 0,
  errno: null,
  detail: null,
  attr: { name: "loader", ttl_ms: 600_000 },
  out: { session_id: 1 },
})}\n`;

const ReplayBody = Type.Object(
  {
    source: Type.Optional(
      Type.Object(
        {
          ...FilterFields,
          after: Type.Optional(Type.Integer({ minimum: 0, description: "Behind this event." })),
          before: Type.Optional(Type.Integer({ minimum: 1, description: "In front of this event." })),
        },
        { additionalProperties: false, description: "Which events of the log; all of them up to now unless given." },
      ),
    ),
    target: Type.Union([
      Type.Object(
        {
          url: Type.String({
            description: "Of another mapledger: http or https.",
            examples: ["http://127.0.0.1:8621"],
          }),
          token: Type.Optional(Type.String({ description: "Its bearer token." })),
        },
        { additionalProperties: false },
      ),
      Type.Enum(["kernel"], { type: "string", description: "Maps of this machine's kernel, beside the mirror's." }),
    ]),
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
    additionalProperties: false,
    examples: [{ source: { after: 100 }, target: { url: "http://127.0.0.1:8621" }, speed: 10 }],
  },
);

interface ReplayRequest {
  readonly source?: FilterQuery & { readonly after?: number; readonly before?: number };
  readonly target: { readonly url: string; readonly token?: string } | "kernel";
  readonly speed?: number;
  readonly prepare?: boolean;
}

const ReplayParams = Type.Object({ replay: Type.Integer({ minimum: 1, maximum: 2 ** 32 - 1, examples: [1] }) });

/** Recorded commands again: as jobs of the service's, and out of an export. */
export async function replayRoutes(app: App, options: RouteOptions): Promise<void> {
  options.parts.replays.endWith(app);
  startReplay(app, options);
  listReplays(app, options);
  getReplay(app, options);
  cancelReplay(app, options);
  await app.register(async (scope: App) => importEvents(scope, options));
}

function startReplay(app: App, { parts }: RouteOptions): void {
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
        ...problems({ body: true }, "target-not-named", "too-many-replays", "ENOENT", "EINVAL"),
      },
    },
    handler: async ({ body, caller }, reply) => {
      const { source = {}, target, speed = null, prepare = false } = body as ReplayRequest;
      const spec = readTargetSpec(target);
      checkTarget(spec, parts.settings.replayTargets);
      const { after, before, ...query } = source;
      const filter = await readFilter(parts.engine, query);
      const selection: Selection = {
        ...filter,
        ...(after !== undefined && { afterSeq: after }),
        ...(before !== undefined && { beforeSeq: before }),
      };
      const events = new OwnLogSource(parts.events, prepare ? {} : filter, await parts.events.lastSeq());
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
    throw new InvalidInput(
      "target.url",
      `a URL of http or https is needed, found ${JSON.stringify(text.slice(0, 40))}`,
    );
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

function listReplays(app: App, { parts }: RouteOptions): void {
  app.get("/replays", {
    schema: {
      operationId: "listReplays",
      summary: "List the replays that run, and the last that are over",
      tags: TAGS,
      response: {
        200: told("By id.", Type.Object({ replays: Type.Array(Type.Ref("Replay")) }), { replays: [EXAMPLE] }),
        ...problems({}),
      },
    },
    handler: async () => ({ replays: parts.replays.all().map(jobJson) }),
  });
}

function getReplay(app: App, { parts }: RouteOptions): void {
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

function cancelReplay(app: App, { parts }: RouteOptions): void {
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

function importEvents(app: App, { parts: { callers } }: RouteOptions): void {
  app.removeAllContentTypeParsers();
  // Read as it comes, and no faster than its commands run: its size has no limit.
  app.addContentTypeParser(NDJSON, (_request, payload, done) => done(null, payload));
  app.post("/replays/import", {
    schema: {
      operationId: "importEvents",
      summary: "Run the commands of an export",
      description:
        "NDJSON as GET /v1/events exports it: its commands are run here, as the caller's own, in their order, and each answer is held " +
        "against the recorded one. A line that cannot be read ends it: the commands before it have run.",
      tags: TAGS,
      body: { content: { [NDJSON]: { schema: body(lines(Type.Ref("Event"), EVENT_LINE).schema, EVENT_LINE) } } },
      response: {
        200: told(
          `What came of it; the first ${DIFFERENCES_MAX} differences.`,
          Type.Object({ summary: Type.Ref("ReplaySummary"), differences: Type.Array(Type.Ref("Difference")) }),
          { summary: EXAMPLE_SUMMARY, differences: [EXAMPLE_DIFFERENCE] },
        ),
        ...problems({ body: true }),
      },
    },
    validatorCompiler: () => () => true,
    handler: async (request) => {
      if (request.body === undefined || request.body === null) throw new InvalidInput("body", "it is missing");
      const differences: Difference[] = [];
      const { caller: name, scopes } = request;
      const own = new OwnRequests(app, callers, { name, scopes });
      const replay = new Replay({
        source: { extent: null, done: 0, read: () => readEventLines(textOf(request.body as Readable)) },
        target: new ApiTarget(own),
        ids: new Ids(),
        selection: {},
        prepare: false,
        pace: null,
        onDifference: (difference) => {
          if (differences.length < DIFFERENCES_MAX) differences.push(difference);
        },
      });
      try {
        return { summary: await replay.run(), differences };
      } catch (error) {
        throw stopped(error, replay.summary.last_seq);
      } finally {
        own.end();
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

async function* textOf(stream: Readable): AsyncIterable<string> {
  const decoder = new TextDecoder();
  for await (const piece of stream as AsyncIterable<Buffer>) yield decoder.decode(piece, { stream: true });
  yield decoder.decode();
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
    sent: Type.Object({}, { additionalProperties: true, description: "Commands that were sent, by name." }),
    prepared: Type.Integer({ description: "Commands that were sent for the selected ones' sake." }),
    implied: Type.Integer({ description: "Descriptors that were closed by their session's end." }),
    left_out: Type.Array(Type.Object({ cmd: Type.String(), why: Type.String(), count: Type.Integer() })),
    compared: Type.Integer(),
    differences: Type.Integer(),
    free: Type.Integer({ description: "Differences that a kernel is free to make." }),
    last_seq: Type.Integer({ description: "The last event that was done with." }),
  },
  { $id: "ReplaySummary", additionalProperties: false },
);

const DifferenceSchema = Type.Object(
  {
    seq: Type.Integer({ description: "Of the recorded event." }),
    cmd: Type.String(),
    differs: Type.Array(Type.String(), { description: "ret, errno, order, or an output by its name." }),
    recorded: Type.Object({}, { additionalProperties: true }),
    got: Type.Object({}, { additionalProperties: true }),
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
    progress: Type.Object({ done: Type.Integer(), total: nullable("integer") }),
    summary: Type.Ref("ReplaySummary"),
    differences: Type.Array(Type.Ref("Difference"), { description: `The first ${DIFFERENCES_MAX} of them.` }),
    detail: nullable("string", { description: "Why it failed, and how far it came." }),
  },
  { $id: "Replay", additionalProperties: false },
);

export const REPLAY_SCHEMAS = [SummarySchema, DifferenceSchema, ReplaySchema] as const;
