/** Schemas of replays and imports: their state, their summary, and the differences that they found. */

import { CLOSED, nullable } from "./fields.ts";
import { Type } from "./type.ts";

/** The most differences that are listed; all are counted. */
export const DIFFERENCES_MAX = 100;

export const SUMMARY_EXAMPLE = {
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
export const DIFFERENCE_EXAMPLE = {
  seq: 17,
  cmd: "BPF_MAP_UPDATE_ELEM",
  differs: ["ret", "errno"],
  recorded: { ret: 0, errno: null },
  got: { ret: -1, errno: "E2BIG", seq: 9 },
};
export const REPLAY_EXAMPLE = {
  id: 1,
  caller: "anonymous",
  state: "done",
  target: "http://127.0.0.1:8621",
  speed: null,
  started_at: "2026-11-23T20:00:00.000000Z",
  ended_at: "2026-11-23T20:00:01.000000Z",
  progress: { done: 17, total: 17 },
  summary: SUMMARY_EXAMPLE,
  differences: [DIFFERENCE_EXAMPLE],
  detail: null,
};

const SummarySchema = Type.Object(
  {
    selected: Type.Integer({ description: "Events that were selected." }),
    sent: Type.Unsafe({
      type: "object",
      additionalProperties: Type.Integer(),
      description: "Commands that were sent: how many, by name.",
    }),
    prepared: Type.Integer({
      description: "Commands that were sent only because selected ones may depend on them; they are not compared.",
    }),
    implied: Type.Integer({ description: "Descriptors that were closed by their session's end." }),
    left_out: Type.Array(
      Type.Object(
        { cmd: Type.String(), why: Type.String(), count: Type.Integer() },
        { $id: "LeftOutCommands", ...CLOSED },
      ),
    ),
    compared: Type.Integer(),
    differences: Type.Integer(),
    free: Type.Integer({ description: "Differences that a kernel is allowed to make." }),
    last_seq: Type.Integer({ description: "The last event that was finished; 0: none." }),
  },
  { $id: "ReplaySummary", additionalProperties: false },
);

/** Outputs have the names of union bpf_attr, or those of mapledger's own answers. */
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
    refused: Type.Optional(Type.String({ description: "Why the target refused the command, if not with an errno." })),
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
    free: Type.Optional(Type.String({ description: "Why a kernel is allowed to answer differently." })),
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

/** Schemas that others refer to by name. */
export const REPLAY_SCHEMAS = [SummarySchema, DifferenceSchema, ReplaySchema] as const;
