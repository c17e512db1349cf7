import { CMD } from "../../abi/service.ts";
import { readPeekBody, readValueBody } from "../../codec/body.ts";
import type { Settings } from "../../config.ts";
import { body, problems, ran, told } from "../schemas/answers.ts";
import { after, CLOSED, hex, LIST_MAX, limit, MapParams, nullable, ValueBody } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { type Bulk, sendValue } from "../server/bulk.ts";
import { must } from "../server/commands.ts";
import type { Flight } from "../server/flight.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { bodyByHand } from "../server/validation.ts";
import { VALUE_EXAMPLE } from "../server/wanted_bodies.ts";
import { AS_OF, AtQuery, at, mustRead, type ReadParts, stateOf } from "../views/as_of.ts";
import { mapJson } from "../views/json.ts";
import { askMap } from "../views/lookups.ts";
import { originOf, readPathname, readReference, VIEWS, type View } from "../views/targets.ts";

const TAGS = ["maps"];
const PAGE_DEFAULT = 100;

export const MAP_EXAMPLE = {
  id: 1,
  map_type: "BPF_MAP_TYPE_LRU_HASH",
  key_size: 4,
  value_size: 8,
  max_entries: 1024,
  map_flags: [],
  name: "counters",
  map_extra: "0",
  numa_node: null,
  mirror_shape: "exact",
  frozen: false,
  inner_map: null,
  btf: null,
  entries: 2,
  written: null,
  possible_cpus: null,
  holds: 1,
  pinned: ["/sys/fs/bpf/counters"],
  pins: 1,
  mirror: { state: "off", detail: "the mirror is switched off by its setting" },
  adopted: null,
  released: false,
  drift: null,
};

interface MapParts extends ReadParts, Bulk {
  readonly flight: Flight;
  readonly settings: Pick<Settings, "pageElementsMax">;
}

/** Maps: listed, frozen, pinned; and push, pop and peek, for maps without keys. */
export async function mapRoutes(app: App, options: RouteOptions<MapParts>): Promise<void> {
  listMaps(app, options);
  getMap(app, options);
  for (const view of VIEWS) {
    freezeMap(app, view, options);
    pinMap(app, view, options);
    pushElement(app, view, options);
    popElement(app, view, options);
    peekElement(app, view, options);
  }
}

const MapPage = Type.Object(
  { maps: Type.Array(Type.Ref("BpfMap")), next: nullable("integer") },
  { $id: "MapPage", ...CLOSED },
);

function listMaps(app: App, { parts }: RouteOptions<MapParts>): void {
  app.get("/maps", {
    schema: {
      operationId: "listMaps",
      summary: "List live maps",
      tags: TAGS,
      querystring: Type.Object({
        after,
        limit: limit(parts.settings.pageElementsMax, PAGE_DEFAULT),
        at,
      }),
      response: {
        200: told("A page of live maps, ordered by id.", MapPage, {
          maps: [MAP_EXAMPLE],
          next: null,
        }),
        ...problems({}, ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { after, limit } = request.query;
      const query = { after, limit: Math.min(limit, LIST_MAX) };
      const maps = await stateOf(parts, request, reply).query("maps", query);
      return { maps: maps.map(mapJson), next: maps.length === query.limit ? (maps.at(-1)?.id ?? null) : null };
    },
  });
}

function getMap(app: App, { parts }: RouteOptions<MapParts>): void {
  app.get("/maps/:map", {
    schema: {
      operationId: "getMap",
      summary: "Get a map",
      tags: TAGS,
      params: MapParams,
      querystring: AtQuery,
      response: {
        200: told("The map: its definition, its pins, and its kernel map.", Type.Ref("BpfMap"), MAP_EXAMPLE),
        ...problems({}, "ENOENT", "EINVAL", ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { map } = request.params;
      return mapJson(await askMap(stateOf(parts, request, reply), readReference(map, "map"), map));
    },
  });
}

function freezeMap(app: App, view: View, { parts }: RouteOptions<MapParts>): void {
  app.post(`${view.prefix}/freeze`, {
    schema: {
      operationId: view.suffix === "" ? "freezeMap" : "freezeAnyMap",
      summary: "Freeze a map",
      description: "BPF_MAP_FREEZE: no command changes the map's elements any more. This cannot be undone.",
      tags: [view.tag],
      params: view.params,
      response: {
        200: ran("The seq of the event that froze the map.", Type.Ref("Done"), { seq: 17 }),
        ...problems(view.is, ...view.errnos, "EBUSY", "EOPNOTSUPP", "ENOTSUPP"),
      },
    },
    handler: async (request, reply) => {
      const command = { cmd: CMD.BPF_MAP_FREEZE, ...originOf(request), key: null, value: null, flags: 0n };
      const { seq } = await must(parts, reply, command);
      return { seq };
    },
  });
}

function pinMap(app: App, view: View, { parts }: RouteOptions<MapParts>): void {
  app.post(`${view.prefix}/pin`, {
    schema: {
      operationId: view.suffix === "" ? "pinMap" : "pinAnyMap",
      summary: "Pin a map",
      description:
        "BPF_OBJ_PIN: the path holds the map, even if all descriptors are closed. EEXIST also if the mirror's directory on the " +
        "machine's bpffs has an entry at this path that is not the ledger's, or if the path is reserved there.",
      tags: [view.tag],
      params: view.params,
      body: Type.Object(
        { pathname: Type.String({ description: "On bpffs; relative paths begin at /sys/fs/bpf." }) },
        { $id: "PinMapBody", ...CLOSED, examples: [{ pathname: "/sys/fs/bpf/counters" }] },
      ),
      response: {
        200: ran("The path of the pin, and the seq of the event.", Type.Ref("PinPath"), {
          pathname: "/sys/fs/bpf/counters",
          seq: 17,
        }),
        ...problems(
          { ...view.is, body: true },
          ...view.errnos,
          "ENOENT",
          "EEXIST",
          "ENOSPC",
          "ENOTDIR",
          "ENAMETOOLONG",
          "EACCES",
        ),
      },
    },
    handler: async (request, reply) => {
      const pathname = readPathname(request.body.pathname, "pathname");
      const attr = { pathname, fileFlags: 0, pathFd: 0 };
      const { outcome, seq } = await must(parts, reply, { cmd: CMD.BPF_OBJ_PIN, ...originOf(request), attr });
      return { pathname: outcome.out?.pathname ?? pathname, seq };
    },
  });
}

function pushElement(app: App, view: View, { parts }: RouteOptions<MapParts>): void {
  app.post(`${view.prefix}/push`, {
    schema: {
      operationId: `pushElement${view.suffix}`,
      summary: "Push a value",
      description: "BPF_MAP_UPDATE_ELEM without a key: for queues, stacks and bloom filters.",
      tags: [view.tag],
      params: view.params,
      body: body(ValueBody, VALUE_EXAMPLE),
      response: {
        200: ran("The seq of the event that added the value.", Type.Ref("Done"), { seq: 17 }),
        ...problems(
          { ...view.is, body: true },
          ...view.errnos,
          "ENOENT",
          "EFAULT",
          "E2BIG",
          "ENOMEM",
          "EBUSY",
          "EOPNOTSUPP",
          "ENOTSUPP",
        ),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const { value, flags } = readValueBody(request.body);
      const origin = originOf(request);
      const { seq } = await must(parts, reply, {
        cmd: CMD.BPF_MAP_UPDATE_ELEM,
        ...origin,
        key: null,
        value,
        flags,
        exact: true,
      });
      return { seq };
    },
  });
}

function popElement(app: App, view: View, { parts }: RouteOptions<MapParts>): void {
  app.post(`${view.prefix}/pop`, {
    schema: {
      operationId: `popElement${view.suffix}`,
      summary: "Pop a value",
      description: "BPF_MAP_LOOKUP_AND_DELETE_ELEM without a key: for queues and stacks.",
      tags: [view.tag],
      params: view.params,
      response: {
        200: ran("The value that was taken out, and the seq of the event.", Type.Ref("Value"), {
          value: "2a000000",
          seq: 17,
        }),
        ...problems(view.is, ...view.errnos, "ENOENT", "EFAULT", "EBUSY", "EOPNOTSUPP", "ENOTSUPP"),
      },
    },
    handler: async (request, reply) => {
      const origin = originOf(request);
      const command = { cmd: CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, ...origin, key: null, value: null, flags: 0n };
      const { outcome, seq } = await must(parts, reply, command);
      return sendValue(parts, reply, outcome.value as Buffer, seq);
    },
  });
}

function peekElement(app: App, view: View, { parts }: RouteOptions<MapParts>): void {
  app.post(`${view.prefix}/peek`, {
    schema: {
      operationId: `peekElement${view.suffix}`,
      summary: "Peek at the next value, or ask a bloom filter",
      description:
        "BPF_MAP_LOOKUP_ELEM without a key. A queue or a stack answers with the value that a pop would take. A bloom filter is asked " +
        "for the `value` of the body: it answers with the same value if it may have been pushed, and with ENOENT if it was not.",
      tags: [view.tag],
      params: view.params,
      querystring: AtQuery,
      "x-body-optional": true,
      body: body(Type.Object({ value: Type.Optional(hex()) }, { $id: "PeekBody", ...CLOSED }), VALUE_EXAMPLE),
      response: {
        200: ran("The value, which stays in the map, and the seq of the event.", Type.Ref("Value"), {
          value: "2a000000",
          seq: 17,
        }),
        ...problems(
          { ...view.is, body: true },
          ...view.errnos,
          "ENOENT",
          "EFAULT",
          "EBUSY",
          "EOPNOTSUPP",
          "ENOTSUPP",
          ...AS_OF,
        ),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async (request, reply) => {
      const { value } = readPeekBody(request.body);
      const command = {
        cmd: CMD.BPF_MAP_LOOKUP_ELEM,
        ...originOf(request),
        key: null,
        value,
        flags: 0n,
        exact: true,
      };
      const { outcome, seq } = await mustRead(parts, request, reply, command);
      return sendValue(parts, reply, outcome.value ?? (value as Buffer), seq);
    },
  });
}
