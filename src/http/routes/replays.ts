import type { Static } from "typebox";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Settings } from "../../config.ts";
import type { Turns } from "../../engine/turn_queue.ts";
import { timeText } from "../../log/event_json.ts";
import type { Selection } from "../../replay/selection.ts";
import type { Jobs } from "../jobs/jobs.ts";
import { OwnLogSource } from "../jobs/log_source.ts";
import type { OwnParts } from "../jobs/own_requests.ts";
import type { Job, Replays, TargetSpec } from "../jobs/replays.ts";
import { problems, told } from "../schemas/answers.ts";
import { CLOSED, oneOf } from "../schemas/fields.ts";
import { REPLAY_EXAMPLE } from "../schemas/replays.ts";
import { Type } from "../schemas/type.ts";
import { type Bulk, sendList } from "../server/bulk.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import type { EngineDoor } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";
import { FilterFields, readFilter, referredMap } from "../views/event_filter.ts";
import { type LogParts, readPoint, seqBefore, seqBehind } from "../views/positions.ts";

const TAGS = ["replays"];
const SPEED_MIN = 0.001;

const place = (name: string, minimum: number, description: string) =>
  Type.Optional(
    oneOf([Type.Integer({ minimum }), Type.String({ description: "A position." })], { $id: name, description }),
  );

const Target = oneOf(
  [
    Type.Object(
      {
        url: Type.String({
          description: "The http or https URL of another mapledger.",
          examples: ["http://127.0.0.1:8621"],
        }),
        token: Type.Optional(Type.String({ description: "Its bearer token." })),
      },
      { $id: "OtherService", ...CLOSED },
    ),
    Type.Enum(["kernel"], { type: "string", description: "Maps of this machine's kernel, beside the mirror's." }),
  ],
  { $id: "ReplayTarget", description: "Another mapledger, or this machine's kernel." },
);

const ReplayBody = Type.Object(
  {
    source: Type.Optional(
      Type.Object(
        {
          ...FilterFields,
          after: place("ReplayAfter", 0, "Only events after this one: its seq, or a position in the log."),
          before: place("ReplayBefore", 1, "Only events before this one: its seq, or a position in the log."),
        },
        {
          $id: "ReplaySource",
          ...CLOSED,
          description: "Selects events of the log. Left out: all events up to now.",
        },
      ),
    ),
    target: Target,
    speed: Type.Optional(
      Type.Number({
        minimum: SPEED_MIN,
        description: "A factor of the original speed. Left out: as fast as possible.",
      }),
    ),
    prepare: Type.Optional(
      Type.Boolean({
        description:
          "Also send the commands before and between the selected ones that changed something. If the source selects a map: of the commands on " +
          "elements, only those of that map.",
      }),
    ),
  },
  {
    $id: "StartReplayBody",
    ...CLOSED,
    examples: [{ source: { after: 100 }, target: { url: "http://127.0.0.1:8621" }, speed: 10 }],
  },
);

const ReplayParams = Type.Object({ replay: Type.Integer({ minimum: 1, maximum: 2 ** 32 - 1, examples: [1] }) });

interface ReplayParts extends LogParts, Bulk, OwnParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly replays: Replays;
  readonly jobs: Jobs;
  readonly turns: Turns;
  readonly settings: Pick<Settings, "replayTargets">;
}

/** Replays: jobs that send recorded commands again, elsewhere. */
export async function replayRoutes(app: App, options: RouteOptions<ReplayParts>): Promise<void> {
  options.parts.replays.endWith(app);
  startReplay(app, options);
  listReplays(app, options);
  getReplay(app, options);
  cancelReplay(app, options);
}

function startReplay(app: App, { parts }: RouteOptions<ReplayParts>): void {
  app.post("/replays", {
    schema: {
      operationId: "startReplay",
      summary: "Replay a part of the log",
      description:
        "Sends recorded commands to another mapledger or to the kernel, in their order, and compares each answer with the recorded " +
        "one. The replay runs inside the service. MAPLEDGER_REPLAY_TARGETS lists the allowed targets; by default there are none.",
      tags: TAGS,
      body: ReplayBody,
      response: {
        201: told("The replay, which has begun to run.", Type.Ref("Replay"), {
          ...REPLAY_EXAMPLE,
          state: "running",
          ended_at: null,
        }),
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
      const { source = {}, target, speed = null, prepare = false } = body;
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

function readTargetSpec(target: Static<typeof Target>): TargetSpec {
  if (target === "kernel") return target;
  const { url: text, token } = target;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new InvalidInput("target.url", `a URL of http or https required, found ${JSON.stringify(text.slice(0, 40))}`);
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token))
    throw new InvalidInput("target.token", "a token has no spaces, and nothing beyond ASCII");
  return { url, token: token ?? null };
}

/** A target that no setting names is not contacted, so a caller cannot find out what runs there. */
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
      summary: "List replays that run or have ended recently",
      tags: TAGS,
      response: {
        200: told("All replays that are remembered, ordered by id.", ReplayList, { replays: [REPLAY_EXAMPLE] }),
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
      summary: "Get a replay",
      tags: TAGS,
      params: ReplayParams,
      response: {
        200: told(
          "The replay: its state, its progress, and the first differences.",
          Type.Ref("Replay"),
          REPLAY_EXAMPLE,
        ),
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
      description: "The replay ends after its current command. A replay that has ended does not change.",
      tags: TAGS,
      params: ReplayParams,
      response: {
        200: told("The replay, which ends after its current command.", Type.Ref("Replay"), {
          ...REPLAY_EXAMPLE,
          state: "cancelled",
        }),
        ...problems({}, "no-such-replay"),
      },
    },
    handler: async ({ params: { replay } }) => jobJson(parts.replays.cancel(replay)),
  });
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
