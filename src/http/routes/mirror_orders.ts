import type { FastifyReply } from "fastify";
import { SIDES } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import { bytes } from "../../codec/scalars.ts";
import type { Settings } from "../../config.ts";
import type { Order, Ordered } from "../../engine/kernel_map_orders.ts";
import type { Who } from "../../syscall/command.ts";
import { body, problems, ran } from "../schemas/answers.ts";
import { CLOSED, MapParams, nullable } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
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

/** Orders of operators about kernel maps. `engine/kernel_map_orders.ts` carries them out. */
export async function mirrorOrderRoutes(app: App, options: RouteOptions<MirrorOrderParts>): Promise<void> {
  decideDrift(app, options);
  recreateKernelMap(app, options);
  repinMap(app, options);
  releaseKernelMap(app, options);
  takeOverPins(app, options);
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
      summary: "Create a map's kernel map again",
      description:
        "Creates another kernel map with the map's elements and puts it in the place of the present one, at the mirror's own pins. " +
        "Programs that use the present kernel map keep it, and no longer see new writes: load them again. If the map was adopted, or " +
        "its adoption was ended, the new kernel map is the ledger's own, and pins of other programs stay as they are. A " +
        "MIRROR_RECREATE event records it.",
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
          "The seq of the event, and the new place of the object that was pinned there.",
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

/** Has an order carried out. Throws a Problem if it is refused or fails. */
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
