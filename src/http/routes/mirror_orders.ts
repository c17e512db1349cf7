import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import { SIDES } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { bytes } from "../../codec/scalars.ts";
import type { Settings } from "../../config.ts";
import type { MirrorView, Order, Ordered } from "../../engine/kernel_maps.ts";
import type { Who } from "../../syscall/command.ts";
import { body, problems, ran, told } from "../schemas/answers.ts";
import { CLOSED, MapParams, nullable } from "../schemas/fields.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import type { EngineDoor } from "../server/ports.ts";
import { failure, refusedOrder } from "../server/problems.ts";
import { mirrorJson } from "../views/json.ts";
import { askMap } from "../views/lookups.ts";
import { readPathname, readReference } from "../views/targets.ts";
import { ON_EXAMPLE } from "./mirror.ts";

const TAGS = ["mirror"];
const KEYS_MAX = 10_000;

interface MirrorOrderParts {
  readonly engine: Pick<EngineDoor, "query">;
  readonly settings: Pick<Settings, "bpffs">;
}

/** The mirror as a whole, and what operators order about kernel maps. */
export async function mirrorOrderRoutes(app: App, options: RouteOptions<MirrorOrderParts>): Promise<void> {
  getMirror(app, options);
  decideDrift(app, options);
  recreateKernelMap(app, options);
  repinMap(app, options);
  releaseKernelMap(app, options);
  takeOverPins(app, options);
}

const count = (description: string) => Type.Integer({ description });

const VIEW = {
  state: Type.Enum(["on", "off"], { type: "string" }),
  detail: nullable("string", { description: "Why the mirror is off; null: it is on." }),
  owner: nullable("string", {
    description:
      "The ledger that the directory of pins belongs to, if that is another one; null: it is this ledger's, or nobody's.",
  }),
  directory: Type.String({ description: "The directory of bpffs that the mirror pins in." }),
  pins: Type.Array(Type.String(), {
    description: "Paths of the mirror's own in it; as far as paths and kernel maps tell, if the mirror is off.",
  }),
  foreign: Type.Array(Type.String(), {
    description: "Paths of others in it; the first 1000, and as many that were put aside.",
  }),
  foreign_more: Type.Boolean({ description: "There are more than `foreign` lists." }),
  unknown: Type.Array(Type.String(), {
    description:
      "What the service cannot ask the machine, with the capability that it lacks: who holds kernel maps (CAP_SYS_ADMIN), or directories that " +
      "are closed to it (CAP_DAC_READ_SEARCH). Such pins are missing in `pins` and `foreign`.",
  }),
  maps: Type.Object(
    {
      on: count("Maps whose kernel map follows them."),
      failed: count("Maps whose kernel map refused a change that the mirror tries again."),
      lost: count("Adopted maps whose pin is gone or replaced, or whose kernel map nothing but the mirror holds."),
      waiting: count("Adopted maps whose kernel map no longer exists."),
      off: count("Maps that have no kernel map; if the mirror is off: all maps."),
      unequal: count("Of those that are on: maps that differed from their kernel map when they were compared last."),
    },
    { $id: "MirroredMaps", ...CLOSED, description: "How many maps are in each state of their `mirror`." },
  ),
};
const View = Type.Object(VIEW, { $id: "MirrorStatus", ...CLOSED });

function getMirror(app: App, { parts: { engine, settings } }: RouteOptions<MirrorOrderParts>): void {
  app.get("/mirror", {
    schema: {
      operationId: "getMirror",
      summary: "How the mirror stands",
      description:
        "Whether kernel maps follow the ledger, what is pinned in the mirror's directory, and how many maps have a kernel map.",
      tags: TAGS,
      response: {
        200: told("The mirror, its pins, and counts of maps.", View, {
          state: "on",
          detail: null,
          owner: null,
          directory: "/sys/fs/bpf/mapledger",
          pins: ["/sys/fs/bpf/mapledger/by_id/1", "/sys/fs/bpf/mapledger/owner", "/sys/fs/bpf/mapledger/counters"],
          foreign: [],
          foreign_more: false,
          unknown: [],
          maps: { on: 1, failed: 0, lost: 0, waiting: 0, off: 0, unequal: 0 },
        }),
        ...problems({}),
      },
    },
    handler: async () => viewJson(await engine.query("mirror", {}), settings.bpffs),
  });
}

function viewJson({ off, owner, directory, ours, foreign, more, unknown, maps }: MirrorView, root: string): object {
  const state = off === null ? "on" : "off";
  const place = directory === "" ? root : directory;
  return { state, detail: off, owner, directory: place, pins: ours, foreign, foreign_more: more, unknown, maps };
}

const OrderedSchema = Type.Object(
  { seq: Type.Ref("Seq"), mirror: Type.Ref("Mirror") },
  { $id: "MirrorOrdered", ...CLOSED },
);
const ORDERED_EXAMPLE = { seq: 17, mirror: ON_EXAMPLE };

function decideDrift(app: App, { parts }: RouteOptions<MirrorOrderParts>): void {
  app.post("/maps/:map/mirror/decide", {
    schema: {
      operationId: "decideDrift",
      summary: "Decide whose elements are right, the map's or the kernel map's",
      description:
        "Makes the map and its kernel map equal, once, whatever the map's policy is. ledger: the map's elements are written into the kernel " +
        "map, and elements that only the kernel map has are deleted from it. kernel: the kernel map's elements become the map's, in batches of " +
        "the service's own with `imported` in their attr. With `keys`, only these elements; without, all that differ, and the map is no longer " +
        "`undecided` after a take-over of the directory of pins. A MIRROR_DECIDE event records the decision first.",
      tags: TAGS,
      params: MapParams,
      body: body(
        Type.Object(
          {
            take: Type.Enum([...SIDES], { type: "string", description: "The side whose elements are kept." }),
            keys: Type.Optional(
              Type.Array(Type.String(), {
                minItems: 1,
                maxItems: KEYS_MAX,
                description: "Keys of elements, in hex; left out: all elements that differ.",
              }),
            ),
          },
          { $id: "DecideDriftBody", ...CLOSED },
        ),
        { take: "kernel", keys: ["01000000"] },
      ),
      response: {
        200: ran(
          "The decision was recorded and done; `mirror` says if the kernel refused it.",
          OrderedSchema,
          ORDERED_EXAMPLE,
        ),
        ...problems({ command: true, body: true }, "ENOENT", "EINVAL", "EOPNOTSUPP"),
      },
    },
    handler: async (request, reply) => {
      const { take, keys } = request.body;
      const { map } = request.params;
      const { id, keySize } = await askMap(parts.engine, readReference(map, "map"), map);
      const named = keys?.map((key, at) => readKey(key, `keys[${at}]`, keySize)) ?? null;
      const order = { what: "decide", map: id, take, keys: named, ...whoOf(request) } as const;
      const { seq } = await must(parts, reply, order);
      return { seq, mirror: await mirrorOf(parts, id, map) };
    },
  });
}

function readKey(key: string, where: string, keySize: number): string {
  const read = bytes(key, where);
  if (read.length === keySize) return read.toString("hex");
  throw new InvalidInput(where, `the key has ${read.length} bytes: this map's keys have ${keySize}`);
}

function recreateKernelMap(app: App, { parts }: RouteOptions<MirrorOrderParts>): void {
  app.post("/maps/:map/mirror/recreate", {
    schema: {
      operationId: "recreateKernelMap",
      summary: "Make a map's kernel map anew",
      description:
        "Creates another kernel map with the map's elements and puts it in the place of the present one, at the mirror's own pins. Programs " +
        "that use the present kernel map keep it, and no longer see what is written: load them again. If the map was adopted, or its adoption " +
        "was ended, the new kernel map is the ledger's own, and pins of other programs are left as they are. A MIRROR_RECREATE event records it.",
      tags: TAGS,
      params: MapParams,
      response: {
        200: ran(
          "The map has another kernel map; `mirror` says if the kernel refused it.",
          OrderedSchema,
          ORDERED_EXAMPLE,
        ),
        ...problems({ command: true }, "ENOENT", "EINVAL", "EOPNOTSUPP"),
      },
    },
    handler: (request, reply) => orderOnMap(parts, request, reply, "recreate"),
  });
}

function releaseKernelMap(app: App, { parts }: RouteOptions<MirrorOrderParts>): void {
  app.post("/maps/:map/mirror/release", {
    schema: {
      operationId: "releaseKernelMap",
      summary: "End the adoption of a map",
      description:
        "The kernel map stays as it is, with the pins of its owner; the mirror removes its own pins of it. The map keeps its elements and its " +
        "history, and has no kernel map from then on: recreate makes one. EINVAL if the map was not adopted. A MIRROR_RELEASE event records it.",
      tags: TAGS,
      params: MapParams,
      response: {
        200: ran("The map no longer follows the kernel map.", OrderedSchema, {
          seq: 17,
          mirror: { state: "off", detail: "its adoption was ended" },
        }),
        ...problems({ command: true }, "ENOENT", "EINVAL", "EOPNOTSUPP"),
      },
    },
    handler: (request, reply) => orderOnMap(parts, request, reply, "release"),
  });
}

function repinMap(app: App, { parts }: RouteOptions<MirrorOrderParts>): void {
  app.post("/maps/:map/mirror/repin", {
    schema: {
      operationId: "repinMap",
      summary: "Put a pin of a map back",
      description:
        "If another program has pinned something else at the place of one of the map's pins, or has removed the pin: pins the kernel map there " +
        "again. The mirror keeps the other object: its pin moves to `aside`. A MIRROR_REPIN event records it.",
      tags: TAGS,
      params: MapParams,
      body: body(
        Type.Object(
          { pathname: Type.String({ description: "A pathname of the map's `pinned`." }) },
          { $id: "RepinMapBody", ...CLOSED },
        ),
        { pathname: "/sys/fs/bpf/counters" },
      ),
      response: {
        200: ran(
          "The pin is back.",
          Type.Object(
            {
              seq: Type.Ref("Seq"),
              aside: nullable("string", { description: "Where the other object is pinned now; null: there was none." }),
            },
            { $id: "MapRepinned", ...CLOSED },
          ),
          { seq: 17, aside: "/sys/fs/bpf/mapledger/aside/counters" },
        ),
        ...problems(
          { command: true, body: true },
          "ENOENT",
          "EINVAL",
          "EEXIST",
          "EPERM",
          "EACCES",
          "ENOTDIR",
          "EBUSY",
          "EOPNOTSUPP",
        ),
      },
    },
    handler: async (request, reply) => {
      const { map } = request.params;
      const pathname = readPathname(request.body.pathname, "pathname");
      const { id } = await askMap(parts.engine, readReference(map, "map"), map);
      const { seq, aside } = await must(parts, reply, { what: "repin", map: id, pathname, ...whoOf(request) });
      return { seq, aside: aside ?? null };
    },
  });
}

function takeOverPins(app: App, { parts }: RouteOptions<MirrorOrderParts>): void {
  app.post("/mirror/take-over", {
    schema: {
      operationId: "takeOverPins",
      summary: "Give the mirror's directory of pins to this ledger",
      description:
        "If the mirror is off because the directory of pins belongs to another ledger (`owner` of GET /v1/mirror): makes it this ledger's, and " +
        "turns the mirror on. Kernel maps are not changed: every map is `undecided`, with the policy report, until decide or PUT mirror says " +
        "whose elements are right. EBUSY if another service uses the directory; EINVAL if the mirror is on. A MIRROR_TAKE_OVER event records it.",
      tags: TAGS,
      response: {
        200: ran("The directory of pins is this ledger's; its kernel maps are being opened.", Type.Ref("Done"), {
          seq: 17,
        }),
        ...problems({ command: true }, "EINVAL", "EBUSY", "EOPNOTSUPP"),
      },
    },
    handler: async (request, reply) => {
      const order = { what: "take over", directory: parts.settings.bpffs, ...whoOf(request) } as const;
      const { seq } = await must(parts, reply, order);
      return { seq };
    },
  });
}

async function orderOnMap(
  parts: MirrorOrderParts,
  { params, caller, peer }: { readonly params: { readonly map: string } } & Who,
  reply: FastifyReply,
  what: "recreate" | "release",
): Promise<object> {
  const { map } = params;
  const { id } = await askMap(parts.engine, readReference(map, "map"), map);
  const { seq } = await must(parts, reply, { what, map: id, caller, peer });
  return { seq, mirror: await mirrorOf(parts, id, map) };
}

function whoOf({ caller, peer }: Who): Who {
  return { caller, peer };
}

async function mirrorOf({ engine }: MirrorOrderParts, id: number, shown: string): Promise<object> {
  return mirrorJson((await askMap(engine, { id }, shown)).mirror);
}

/** Has an order done. Throws the problem of one that was not. */
async function must(
  { engine }: MirrorOrderParts,
  reply: FastifyReply,
  order: Order,
): Promise<Extract<Ordered, { seq: number }>> {
  const answer = await engine.query("order", order);
  if ("refused" in answer) throw refusedOrder(answer.refused);
  if ("failure" in answer) throw failure(answer);
  reply.header("mapledger-seq", String(answer.seq));
  return answer;
}
