/**
 * Adoption: a kernel map that another program has made becomes a map of the ledger. `engine/adopt.ts` runs the commands
 * that this takes.
 */

import type { Static } from "typebox";
import { DRIFT_POLICIES, ON_REPLACE } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { DriftPolicy } from "../../maps/map.ts";
import { body, problems, ran } from "../schemas/answers.ts";
import { CLOSED } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import type { EngineDoor } from "../server/ports.ts";
import { failure, refusedOrder } from "../server/problems.ts";
import { mapJson } from "../views/json.ts";
import { askMap } from "../views/lookups.ts";
import { readPathname } from "../views/targets.ts";
import { MAP_EXAMPLE } from "./maps.ts";
import { ON_EXAMPLE, POLICY_EXAMPLE, SECONDS_MAX } from "./mirror.ts";

const MS = 1000;

const AdoptSchema = Type.Object(
  {
    kernel_id: Type.Optional(Type.Integer({ minimum: 1, description: "The kernel's id of the kernel map." })),
    pinned: Type.Optional(Type.String({ description: "An absolute path on bpffs: where the kernel map is pinned." })),
    pathname: Type.Optional(
      Type.String({
        description:
          "Where the map is pinned in the ledger. Left out: the path of `pinned`, with /sys/fs/bpf in place of its bpffs; without `pinned`, the kernel map's name below /sys/fs/bpf.",
      }),
    ),
    policy: Type.Optional(
      Type.Enum([...DRIFT_POLICIES], {
        type: "string",
        description: "The policy about differences between the map and the kernel map. Left out: report.",
      }),
    ),
    interval_seconds: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: SECONDS_MAX,
        description:
          "Seconds between two comparisons; needs `policy`. Left out or 0: only at a start, and if somebody asks.",
      }),
    ),
    on_replace: Type.Optional(
      Type.Enum([...ON_REPLACE], {
        type: "string",
        description:
          "The reaction of the mirror if `pinned` names another kernel map, as after its program was loaded again; needs `pinned`. follow: the map " +
          "follows the new kernel map, and its elements become the map's. report: the mirror of the map is lost. Left out: follow.",
      }),
    ),
  },
  { $id: "AdoptMapBody", ...CLOSED, description: "Exactly one of `kernel_id` and `pinned` is required." },
);

const MapAdopted = Type.Object({ map: Type.Ref("BpfMap"), seq: Type.Ref("Seq") }, { $id: "MapAdopted", ...CLOSED });

type AdoptBody = Static<typeof AdoptSchema>;

interface AdoptParts {
  readonly engine: Pick<EngineDoor, "query">;
}

export async function adoptRoutes(app: App, { parts: { engine } }: RouteOptions<AdoptParts>): Promise<void> {
  app.post("/maps/adopt", {
    schema: {
      operationId: "adoptMap",
      summary: "Adopt a map that another program has made",
      description:
        "The definition and the elements of the kernel map become events, all of them or none. From then on the kernel map is the mirror of " +
        "the new map, which is read and written like any other; programs that use the kernel map go on using it. Only types whose elements the " +
        "kernel shows can be adopted: hashes, arrays, tries, DEVMAP, CPUMAP, arrays of programs, and maps of maps, which are adopted with the " +
        "maps that they hold. BTF is adopted, too. A map without a policy is compared with the kernel map at every start, and differences are " +
        "recorded (report).",
      tags: ["mirror"],
      body: body(AdoptSchema, {
        pinned: "/sys/fs/bpf/tc/globals/blocklist",
        pathname: "/sys/fs/bpf/blocklist",
        policy: "import",
        interval_seconds: 10,
        on_replace: "follow",
      }),
      response: {
        201: ran("The kernel map has become this map.", MapAdopted, {
          map: {
            ...MAP_EXAMPLE,
            mirror: { ...ON_EXAMPLE, held: "yes" },
            adopted: { kernel_id: 42, pin: "/sys/fs/bpf/tc/globals/blocklist", on_replace: "follow" },
            drift: POLICY_EXAMPLE,
          },
          seq: 17,
        }),
        ...problems(
          { command: true, body: true },
          "ENOENT",
          "EINVAL",
          "EEXIST",
          "EOPNOTSUPP",
          "EPERM",
          "EACCES",
          "EAGAIN",
          "EMFILE",
          "ENOMEM",
          "ENOSPC",
          "EBUSY",
        ),
      },
    },
    handler: async (request, reply) => {
      const asked = request.body;
      const which = kernelMapMeant(asked);
      const pathname = asked.pathname === undefined ? null : readPathname(asked.pathname, "pathname");
      const drift = askedPolicy(asked);
      const onReplace = asked.on_replace ?? "follow";
      const { caller, peer } = request;
      const answer = await engine.query("adopt", { which, pathname, caller, peer, drift, onReplace });
      if ("refused" in answer) throw refusedOrder(answer.refused);
      if ("failure" in answer) throw failure(answer);
      const map = mapJson(await askMap(engine, { id: answer.map }, String(answer.map)));
      return reply.code(201).header("mapledger-seq", String(answer.seq)).send({ map, seq: answer.seq });
    },
  });
}

function kernelMapMeant({ kernel_id: kernelId, pinned, on_replace: onReplace }: AdoptBody) {
  if (pinned === undefined && onReplace !== undefined)
    throw new InvalidInput("on_replace", "`pinned` is required with it");
  if (kernelId !== undefined && pinned !== undefined)
    throw new InvalidInput("kernel_id", "`kernel_id` and `pinned` exclude each other");
  if (pinned !== undefined) return { pinned: readPathname(pinned, "pinned") };
  if (kernelId !== undefined) return { kernelId };
  throw new InvalidInput("pinned", "`kernel_id` or `pinned` is required");
}

function askedPolicy({ policy, interval_seconds: seconds }: AdoptBody): DriftPolicy | null {
  if (policy !== undefined) return { policy, intervalMs: Math.round((seconds ?? 0) * MS) };
  if (seconds !== undefined) throw new InvalidInput("interval_seconds", "`policy` is required with it");
  return null;
}
