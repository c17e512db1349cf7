import { Type } from "typebox";
import { ERRNO, type Errno } from "../../abi/errno.ts";
import { CMD, DRIFT_POLICIES } from "../../abi/service.ts";
import type { DriftAnswer } from "../../engine/drift.ts";
import { body, problems, ran, told } from "../answers.ts";
import { askMap } from "../asked.ts";
import { driftJson, kernelMapJson, mapJson, mirrorJson } from "../json.ts";
import { type App, must, type RouteOptions } from "../parts.ts";
import { failure, Problem } from "../problems.ts";
import { limit, MapParams, nullable, nullableHex } from "../schemas.ts";
import { readPathname, readReference } from "../views.ts";
import { MAP_EXAMPLE } from "./maps.ts";

const TAGS = ["mirror"];
const DIFFERENCES_DEFAULT = 100;
const DIFFERENCES_MAX = 10_000;
const SECONDS_MAX = 86_400;
const MS = 1000;

const POLICY_EXAMPLE = { policy: "import", interval_seconds: 10 } as const;
const OFF_EXAMPLE = { state: "off", detail: "the mirror is switched off by its setting" };

const Drift = Type.Object({
  map_id: Type.Integer(),
  missing: Type.Integer({ description: "Elements in the ledger alone." }),
  changed: Type.Integer({ description: "In both, with other values." }),
  extra: Type.Integer({ description: "In the kernel alone." }),
  differences: Type.Array(
    Type.Object({
      key: Type.Ref("Hex"),
      ledger: nullableHex(),
      kernel: nullableHex(),
    }),
    { description: "The first `limit` of them; null where there is no element, or no value is told." },
  ),
});

/** Kernel maps that follow the ledger's: what they differ in, and how they are made equal. */
export async function mirrorRoutes(app: App, options: RouteOptions): Promise<void> {
  resyncMap(app, options);
  getDrift(app, options);
  setPolicy(app, options);
  listKernelMaps(app, options);
  adoptMap(app, options);
}

function resyncMap(app: App, { parts: { engine } }: RouteOptions): void {
  app.post("/maps/:map/mirror/resync", {
    schema: {
      operationId: "resyncMap",
      summary: "Repair a map's mirror",
      description:
        "Makes the kernel's map equal to the state again. What the kernel refuses is in the answer's `mirror`.",
      tags: TAGS,
      params: MapParams,
      response: {
        200: told("How the mirror stands now.", Type.Object({ mirror: Type.Ref("Mirror") }), { mirror: OFF_EXAMPLE }),
        ...problems({}, "ENOENT", "EINVAL"),
      },
    },
    handler: async ({ params: { map }, caller }) => {
      const { id } = await askMap(engine, readReference(map, "map"), map);
      await engine.query("resync", { id, caller });
      return { mirror: mirrorJson((await askMap(engine, { id }, map)).mirror) };
    },
  });
}

function getDrift(app: App, { parts: { engine } }: RouteOptions): void {
  app.get("/maps/:map/drift", {
    schema: {
      operationId: "getDrift",
      summary: "What a map and its kernel map differ in",
      description:
        "Programs and strangers may write into kernel maps. The whole map is compared, in pieces between commands; nothing is changed.",
      tags: TAGS,
      params: MapParams,
      querystring: Type.Object({ limit: limit(DIFFERENCES_MAX, DIFFERENCES_DEFAULT) }),
      response: {
        200: told("It.", Drift, {
          map_id: 1,
          missing: 0,
          changed: 1,
          extra: 0,
          differences: [{ key: "01000000", ledger: "0000000000000000", kernel: "2a00000000000000" }],
        }),
        ...problems({}, "ENOENT", "EINVAL", "EOPNOTSUPP", "EBUSY"),
      },
    },
    handler: async ({ params: { map }, query }) => {
      const { id } = await askMap(engine, readReference(map, "map"), map);
      const answer = await engine.query("drift", { id, limit: (query as { limit: number }).limit });
      return reportJson(id, map, answer);
    },
  });
}

function reportJson(id: number, shown: string, answer: DriftAnswer): object {
  if ("gone" in answer) throw new Problem("ENOENT", `there is no map ${shown}`, { errno: "ENOENT" });
  if ("untold" in answer)
    throw new Problem("EOPNOTSUPP", `the kernel map cannot be compared: ${answer.untold}`, { errno: "EOPNOTSUPP" });
  if ("operation" in answer) throw new Problem("EBUSY", answer.detail, { errno: answer.errno });
  return { map_id: id, ...answer.counts, differences: answer.differences };
}

function setPolicy(app: App, { parts }: RouteOptions): void {
  app.put("/maps/:map/mirror", {
    schema: {
      operationId: "setDriftPolicy",
      summary: "Say what is done about drift",
      description:
        "From now on the map is compared with its kernel map at an interval, and what differs is told of (`report`: a MIRROR_DRIFT " +
        "event whenever it is another than before), undone (`repair`: the ledger wins, and a MIRROR_DRIFT event tells of it), or taken over " +
        "(`import`: the kernel wins; what it has becomes batches of the service's own, with `imported` in their attr).",
      tags: TAGS,
      params: MapParams,
      body: body(
        Type.Object(
          {
            policy: Type.Enum([...DRIFT_POLICIES], { type: "string" }),
            interval_seconds: Type.Number({
              minimum: 0,
              maximum: SECONDS_MAX,
              description: "To the millisecond; 0: it is not compared.",
            }),
          },
          { additionalProperties: false },
        ),
        POLICY_EXAMPLE,
      ),
      response: {
        200: ran(
          "It holds.",
          Type.Object({ drift: nullable("object", { additionalProperties: true }), seq: Type.Ref("Seq") }),
          {
            drift: POLICY_EXAMPLE,
            seq: 17,
          },
        ),
        ...problems({ command: true, body: true }, "ENOENT", "EINVAL", "EOPNOTSUPP"),
      },
    },
    handler: async (request, reply) => {
      const { map } = request.params;
      const { policy, interval_seconds: seconds } = request.body as typeof POLICY_EXAMPLE;
      const { id } = await askMap(parts.engine, readReference(map, "map"), map);
      if ((policy as string) === "import") await checkImportable(parts.engine, id);
      const attr = { policy, intervalMs: Math.round(seconds * MS) };
      const target = { by: "id", id } as const;
      const command = { cmd: CMD.MIRROR_POLICY, session: 0, caller: request.caller, target, attr };
      const { seq } = await must(parts, reply, command);
      return { drift: driftJson(attr), seq };
    },
  });
}

async function checkImportable(engine: RouteOptions["parts"]["engine"], id: number): Promise<void> {
  const why = await engine.query("cannotImport", { id });
  if (why !== null) throw new Problem("EOPNOTSUPP", `nothing can be imported: ${why}`, { errno: "EOPNOTSUPP" });
}

const KernelMap = Type.Object({
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
  not_adoptable: nullable("string", { description: "Why it cannot be adopted; null: it can." }),
});

function listKernelMaps(app: App, { parts: { engine } }: RouteOptions): void {
  app.get("/kernel/maps", {
    schema: {
      operationId: "listKernelMaps",
      summary: "The maps that the kernel has",
      description: "All of the machine's, whoever has made them; none where the mirror is off.",
      tags: TAGS,
      response: {
        200: told("They, by the kernel's id.", Type.Object({ kernel_maps: Type.Array(KernelMap) }), {
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
              not_adoptable: null,
            },
          ],
        }),
        ...problems({}),
      },
    },
    handler: async () => ({ kernel_maps: (await engine.query("kernelMaps", {})).map(kernelMapJson) }),
  });
}

function adoptMap(app: App, { parts: { engine } }: RouteOptions): void {
  const pathname = Type.Optional(
    Type.String({ description: "Where the map is pinned, which holds it; left out: /sys/fs/bpf and its name." }),
  );
  app.post("/maps/adopt", {
    schema: {
      operationId: "adoptMap",
      summary: "Take over a map that another program has made",
      description:
        "Its definition and what it holds become events, all of them or none; from then on it is the kernel map of the map that it has " +
        "become, which is read and written like any other. Programs that use it go on using it. The kernel must tell what it holds: hashes, " +
        "arrays, tries, DEVMAP, CPUMAP, arrays of programs, and maps of maps, which are adopted with the maps that they hold. BTF comes along. " +
        "What its programs write is drift: give it a policy.",
      tags: TAGS,
      body: body(
        Type.Union([
          Type.Object({ kernel_id: Type.Integer({ minimum: 1 }), pathname }, { additionalProperties: false }),
          Type.Object(
            { pinned: Type.String({ description: "An absolute path on bpffs." }), pathname },
            { additionalProperties: false },
          ),
        ]),
        { pinned: "/sys/fs/bpf/tc/globals/blocklist", pathname: "/sys/fs/bpf/blocklist" },
      ),
      response: {
        201: ran("It has become this map.", Type.Object({ map: Type.Ref("Map"), seq: Type.Ref("Seq") }), {
          map: MAP_EXAMPLE,
          seq: 17,
        }),
        ...problems(
          { command: true, body: true },
          "ENOENT",
          "EINVAL",
          "EEXIST",
          "EOPNOTSUPP",
          "EPERM",
          "ENOMEM",
          "EBUSY",
        ),
      },
    },
    handler: async (request, reply) => {
      const asked = request.body as { kernel_id?: number; pinned?: string; pathname?: string };
      const which =
        asked.pinned === undefined
          ? { kernelId: asked.kernel_id as number }
          : { pinned: readPathname(asked.pinned, "pinned") };
      const pathname = asked.pathname === undefined ? null : readPathname(asked.pathname, "pathname");
      const answer = await engine.query("adopt", { which, pathname, caller: request.caller });
      if ("refused" in answer) throw refusedAdoption(answer.refused);
      if ("failure" in answer) throw failure(answer);
      const map = mapJson(await askMap(engine, { id: answer.map }, String(answer.map)));
      return reply.code(201).header("mapledger-seq", String(answer.seq)).send({ map, seq: answer.seq });
    },
  });
}

function refusedAdoption({ errno, detail }: { errno: string; detail: string }): Problem {
  const known = Object.hasOwn(ERRNO, errno) ? (errno as Errno) : "EINVAL";
  return new Problem(known, detail, { errno });
}
