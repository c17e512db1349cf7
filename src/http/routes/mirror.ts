import { CMD, DRIFT_POLICIES } from "../../abi/service.ts";
import type { DriftAnswer } from "../../engine/comparisons.ts";
import { body, problems, ran, told } from "../schemas/answers.ts";
import { CLOSED, driftPolicy, limit, MapParams, nullable, nullableHex } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { requestText } from "../server/access.ts";
import { type Bulk, sendList } from "../server/bulk.ts";
import { must } from "../server/commands.ts";
import type { Flight } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { Problem, refusedOrder } from "../server/problems.ts";
import { presentOf, type ReadParts } from "../views/as_of.ts";
import { driftCountsJson, driftJson, kernelMapJson, mirrorJson } from "../views/json.ts";
import { askMap } from "../views/lookups.ts";
import { readReference } from "../views/targets.ts";

const TAGS = ["mirror"];
const DIFFERENCES_DEFAULT = 100;
const DIFFERENCES_MAX = 10_000;
export const SECONDS_MAX = 86_400;
const MS = 1000;

export const POLICY_EXAMPLE = { policy: "import", interval_seconds: 10 } as const;

export const ON_EXAMPLE = {
  state: "on",
  kernel_id: 42,
  pinned: "/sys/fs/bpf/mapledger/by_id/1",
  max_entries: 1024,
  equal: "yes",
};

const COUNTS = {
  missing: Type.Integer({ description: "Elements that only the map has." }),
  changed: Type.Integer({ description: "Elements that both have, with different values." }),
  extra: Type.Integer({ description: "Elements that only the kernel map has." }),
  both_changed: Type.Integer({
    description:
      "How many of these elements the ledger changed, too, while the kernel map did not follow. 0 if it is not known which elements the ledger " +
      "changed meanwhile.",
  }),
  evicted: Type.Integer({
    description: "Of an LRU map, not counted in `missing`: elements that the kernel evicted from the kernel map.",
  }),
};
const COUNTS_EXAMPLE = { missing: 0, changed: 1, extra: 0, both_changed: 0, evicted: 0 } as const;

const Drift = Type.Object(
  {
    map_id: Type.Integer(),
    ...COUNTS,
    differences: Type.Array(
      Type.Object(
        { key: Type.Ref("Hex"), ledger: nullableHex(), kernel: nullableHex() },
        { $id: "ElementDifference", ...CLOSED },
      ),
      {
        description: "The first `limit` differences. null: there is no element, or the kernel does not show its value.",
      },
    ),
  },
  { $id: "MapDrift", ...CLOSED },
);

interface MirrorParts extends ReadParts, Bulk {
  readonly flight: Flight;
}

/** Comparisons of maps with kernel maps, policies about the differences, and the list of the machine's kernel maps. */
export async function mirrorRoutes(app: App, options: RouteOptions<MirrorParts>): Promise<void> {
  resyncMap(app, options);
  getDrift(app, options);
  setPolicy(app, options);
  listKernelMaps(app, options);
}

function resyncMap(app: App, { parts: { engine } }: RouteOptions<MirrorParts>): void {
  app.post("/maps/:map/mirror/resync", {
    schema: {
      operationId: "resyncMap",
      summary: "Compare a map with its kernel map now",
      description:
        "Compares the map with its kernel map and applies the map's policy: report records the differences in a MIRROR_DRIFT event, " +
        "repair writes the map's elements into the kernel map, import records the kernel map's elements in the map. If the kernel map could not " +
        "be opened or made before, the mirror tries that first. To choose a side for once, use decide.",
      tags: TAGS,
      params: MapParams,
      response: {
        200: told(
          "The state of the map's mirror now, and the differences that the comparison found.",
          Type.Object(
            {
              mirror: Type.Ref("Mirror"),
              differed: nullable("object", {
                $id: "DriftCounts",
                properties: COUNTS,
                required: Object.keys(COUNTS),
                ...CLOSED,
                description:
                  "Differences found before the policy acted on them. null: there is no kernel map, or the kernel does not show its elements.",
              }),
            },
            { $id: "MapCompared", ...CLOSED },
          ),
          { mirror: ON_EXAMPLE, differed: COUNTS_EXAMPLE },
        ),
        ...problems({}, "ENOENT", "EINVAL"),
      },
    },
    handler: async ({ params: { map }, caller, peer }) => {
      const { id } = await askMap(engine, readReference(map, "map"), map);
      const answer = await engine.query("resync", { id, caller, peer });
      const { mirror } = await askMap(engine, { id }, map);
      return { mirror: mirrorJson(mirror), differed: "counts" in answer ? driftCountsJson(answer.counts) : null };
    },
  });
}

function getDrift(app: App, { parts }: RouteOptions<MirrorParts>): void {
  const { engine } = parts;
  app.get("/maps/:map/drift", {
    schema: {
      operationId: "getDrift",
      summary: "Compare a map with its kernel map, changing nothing",
      description:
        "Other programs may write into kernel maps. This compares the whole map, in pieces between commands, and changes nothing. A " +
        "comparison that acts on differences records them first, in a MIRROR_DRIFT event, except an import at the map's interval, whose " +
        "batches record them. The event's attr has `policy`, `missing`, `changed`, " +
        "`extra`, `both_changed` and `evicted` (left out if 0), `at` (why the comparison ran: start, on, resync, take-over, decided, " +
        "retry, replaced, followed; left out at the map's interval; or `repaired more`, if a repair found more differences than its first event " +
        "has), and `first_keys` (the first 10 keys).",
      tags: TAGS,
      params: MapParams,
      querystring: Type.Object({ limit: limit(DIFFERENCES_MAX, DIFFERENCES_DEFAULT) }),
      response: {
        200: told("The differences: counts of all, and the first of them.", Drift, {
          map_id: 1,
          ...COUNTS_EXAMPLE,
          differences: [{ key: "01000000", ledger: "0000000000000000", kernel: "2a00000000000000" }],
        }),
        ...problems({}, "ENOENT", "EINVAL", "EOPNOTSUPP", "EBUSY"),
      },
    },
    handler: async (request) => {
      const { map } = request.params;
      const { limit } = request.query;
      const { id } = await askMap(presentOf(parts, request), readReference(map, "map"), map);
      const { limits } = request;
      const answer = await engine.query("drift", { id, limit, ...(limits !== undefined && { limits: limits.id }) });
      if ("missing" in answer) throw parts.refusals.refuseMap(request, answer.missing, requestText(request));
      return reportJson(id, map, answer);
    },
  });
}

function reportJson(id: number, shown: string, answer: DriftAnswer): object {
  if ("gone" in answer) throw new Problem("ENOENT", `there is no map ${shown}`, { errno: "ENOENT" });
  if ("untold" in answer)
    throw new Problem("EOPNOTSUPP", `the kernel map cannot be compared: ${answer.untold}`, { errno: "EOPNOTSUPP" });
  if ("operation" in answer) throw new Problem("EBUSY", answer.detail, { errno: answer.errno });
  return { map_id: id, ...driftCountsJson(answer.counts), differences: answer.differences };
}

const PolicySet = Type.Object({ drift: driftPolicy(), seq: Type.Ref("Seq") }, { $id: "DriftPolicySet", ...CLOSED });

function setPolicy(app: App, { parts }: RouteOptions<MirrorParts>): void {
  app.put("/maps/:map/mirror", {
    schema: {
      operationId: "setDriftPolicy",
      summary: "Set a map's policy about drift",
      description:
        "The map is compared with its kernel map at the interval, at every start, and by resync. report: a MIRROR_DRIFT event records " +
        "all differences; at the interval, only if their numbers have changed since the last comparison. repair: a MIRROR_DRIFT event records them, and the mirror " +
        "writes the map's elements into the kernel map. import: the kernel map's elements become batches of the service's own, with " +
        "`imported` in their attr. After a take-over of the directory of pins this also decides for the map, which is no longer " +
        "`undecided`.",
      tags: TAGS,
      params: MapParams,
      body: body(
        Type.Object(
          {
            policy: Type.Enum([...DRIFT_POLICIES], { type: "string" }),
            interval_seconds: Type.Number({
              minimum: 0,
              maximum: SECONDS_MAX,
              description: "To the millisecond. 0: the map is compared only at a start, and if somebody asks.",
            }),
          },
          { $id: "SetDriftPolicyBody", ...CLOSED },
        ),
        POLICY_EXAMPLE,
      ),
      response: {
        200: ran("The policy that is in force now, and the seq of the event.", PolicySet, {
          drift: POLICY_EXAMPLE,
          seq: 17,
        }),
        ...problems({ command: true, body: true }, "ENOENT", "EINVAL", "EOPNOTSUPP"),
      },
    },
    handler: async (request, reply) => {
      const { map } = request.params;
      const { policy, interval_seconds: seconds } = request.body;
      const { id } = await askMap(parts.engine, readReference(map, "map"), map);
      if (policy === "import") await checkImportable(parts.engine, id);
      const attr = { policy, intervalMs: Math.round(seconds * MS) };
      const target = { by: "id", id } as const;
      const command = { cmd: CMD.MIRROR_POLICY, session: 0, caller: request.caller, target, attr };
      const { seq } = await must(parts, reply, command);
      return { drift: driftJson(attr), seq };
    },
  });
}

async function checkImportable(engine: MirrorParts["engine"], id: number): Promise<void> {
  const why = await engine.query("cannotImport", { id });
  if (why !== null) throw new Problem("EOPNOTSUPP", `nothing can be imported: ${why}`, { errno: "EOPNOTSUPP" });
}

const KERNEL_MAP = {
  kernel_id: Type.Integer({ description: "The kernel's own id." }),
  map_type: Type.String({ description: "A name of enum bpf_map_type." }),
  key_size: Type.Integer(),
  value_size: Type.Integer(),
  max_entries: Type.Integer(),
  map_flags: Type.Array(Type.String()),
  name: Type.String(),
  frozen: Type.Boolean(),
  btf_id: nullable("integer", { description: "The kernel's id of the BTF that describes it." }),
  map_id: nullable("integer", { description: "The map that it follows." }),
  was: nullable("integer", {
    description: "The map that it followed, if that has been freed and the kernel map lives on.",
  }),
  not_adoptable: nullable("string", {
    description: "The reason why it, or a map that it contains, cannot be adopted; null: it can.",
  }),
  pins: Type.Array(Type.String(), {
    description:
      "Paths at which it is pinned, on every bpffs that is mounted where the service runs. A pin with several paths is listed once.",
  }),
  holders: nullable("object", {
    description:
      "The kernel's ids of the programs that use it (`programs`) and of the maps of maps that it is in (`outer`); null if `holders_unknown` " +
      "gives a reason. Descriptors of processes hold a map, too, but the kernel does not report them.",
    $id: "KernelMapHolders",
    properties: { programs: Type.Array(Type.Integer()), outer: Type.Array(Type.Integer()) },
    required: ["programs", "outer"],
    ...CLOSED,
  }),
  holders_unknown: nullable("string", {
    description:
      "Why `pins` and `holders` cannot be known completely, with the capability that is missing (CAP_SYS_ADMIN to list programs); null: they are complete.",
  }),
};
const KernelMapList = Type.Object(
  { kernel_maps: Type.Array(Type.Object(KERNEL_MAP, { $id: "KernelMap", ...CLOSED })) },
  { $id: "KernelMapList", ...CLOSED },
);

function listKernelMaps(app: App, { parts }: RouteOptions<MirrorParts>): void {
  app.get("/kernel/maps", {
    schema: {
      operationId: "listKernelMaps",
      summary: "List the machine's kernel maps",
      description:
        "Lists all kernel maps of the machine, including those of other programs. EPERM if the service may not list them, with the " +
        "capability that it lacks (CAP_SYS_ADMIN); EOPNOTSUPP if MAPLEDGER_MIRROR is off.",
      tags: TAGS,
      response: {
        200: told("All kernel maps of the machine, ordered by the kernel's id.", KernelMapList, {
          kernel_maps: [
            {
              kernel_id: 42,
              map_type: "BPF_MAP_TYPE_LPM_TRIE",
              key_size: 8,
              value_size: 4,
              max_entries: 1024,
              map_flags: ["BPF_F_NO_PREALLOC"],
              name: "blocklist",
              frozen: false,
              btf_id: 17,
              map_id: null,
              was: null,
              not_adoptable: null,
              pins: ["/sys/fs/bpf/tc/globals/blocklist"],
              holders: { programs: [108], outer: [] },
              holders_unknown: null,
            },
          ],
        }),
        ...problems({}, "EPERM", "EACCES", "EMFILE", "ENOMEM", "EOPNOTSUPP"),
      },
    },
    handler: async (_request, reply) => {
      const answer = await parts.engine.query("kernelMaps", {});
      if ("refused" in answer) throw refusedOrder(answer.refused);
      return sendList(parts, reply, "kernel_maps", answer, kernelMapJson);
    },
  });
}
