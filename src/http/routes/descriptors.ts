import { CMD } from "../../abi/service.ts";
import { readCreateBody } from "../../codec/body.ts";
import { body, problems, ran, told } from "../schemas/answers.ts";
import { CreateSchema } from "../schemas/attr.ts";
import { OpenDescriptorBody } from "../schemas/descriptor_opening.ts";
import { CLOSED, FdParams, SessionParams, seq } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { asAllowed } from "../server/access.ts";
import { must } from "../server/commands.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { Problem } from "../server/problems.ts";
import { bodyByHand } from "../server/validation.ts";
import { AS_OF, AtQuery, presentOf, type ReadParts, stateOf } from "../views/as_of.ts";
import { type OpeningParts, open, openAction } from "../views/descriptor_opening.ts";
import { descriptorJson, mapJson } from "../views/json.ts";
import { askFds, askMap, askOwnSession } from "../views/lookups.ts";

const TAGS = ["descriptors"];
const IN_SESSION = ["no-such-session", "session-ended", "session-foreign"] as const;
const EXAMPLE = { fd: 3, kind: "map", map_id: 1, access: "rw", object: null };

type DescriptorParts = ReadParts & OpeningParts;

/** A session's descriptors: opened, listed and closed. To create a map is to open a descriptor, too. */
export async function descriptorRoutes(app: App, options: RouteOptions<DescriptorParts>): Promise<void> {
  createMap(app, options);
  listDescriptors(app, options);
  getDescriptor(app, options);
  openDescriptor(app, options);
  closeDescriptor(app, options);
}

function createMap(app: App, { parts }: RouteOptions<DescriptorParts>): void {
  app.post("/sessions/:session/maps", {
    schema: {
      operationId: "createMap",
      summary: "Create a map",
      description: "BPF_MAP_CREATE. A descriptor of the session holds the new map.",
      tags: TAGS,
      params: SessionParams,
      body: body(CreateSchema, {
        map_type: "BPF_MAP_TYPE_HASH",
        key_size: 4,
        value_size: 8,
        max_entries: 1024,
        map_flags: ["BPF_F_NO_PREALLOC"],
        map_name: "counters",
      }),
      response: {
        201: ran("The descriptor and the id of the new map.", Type.Ref("Opened"), { fd: 3, map_id: 1, seq: 17 }),
        ...problems(
          { command: true, session: true, body: true },
          "EINVAL",
          "E2BIG",
          "ENOMEM",
          "EMFILE",
          "ENOSPC",
          "EPERM",
          "EBADF",
          "EOPNOTSUPP",
          "ENOTSUPP",
          "EACCES",
          "ERANGE",
          "EFAULT",
        ),
      },
    },
    validatorCompiler: bodyByHand,
    handler: async ({ params: { session }, caller, body }, reply) => {
      const command = { cmd: CMD.BPF_MAP_CREATE, session, caller, attr: readCreateBody(body) } as const;
      const { outcome, seq } = await must(parts, reply, command);
      reply.code(201).header("location", `/v1/sessions/${session}/fds/${outcome.ret}`);
      return { fd: outcome.ret, map_id: outcome.map, seq };
    },
  });
}

const DescriptorList = Type.Object({ fds: Type.Array(Type.Ref("Descriptor")) }, { $id: "DescriptorList", ...CLOSED });

function listDescriptors(app: App, { parts }: RouteOptions<DescriptorParts>): void {
  app.get("/sessions/:session/fds", {
    schema: {
      operationId: "listDescriptors",
      summary: "List a session's open descriptors",
      tags: TAGS,
      params: SessionParams,
      querystring: AtQuery,
      response: {
        200: told("All open descriptors of the session.", DescriptorList, { fds: [EXAMPLE] }),
        ...problems({}, ...IN_SESSION, ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { session } = request.params;
      const state = stateOf(parts, request, reply);
      await askOwnSession(state, session, request.caller);
      return { fds: (await askFds(state, session)).map(descriptorJson) };
    },
  });
}

function getDescriptor(app: App, { parts }: RouteOptions<DescriptorParts>): void {
  app.get("/sessions/:session/fds/:fd", {
    schema: {
      operationId: "getDescriptor",
      summary: "Get a descriptor and its map",
      tags: TAGS,
      params: FdParams,
      querystring: AtQuery,
      response: {
        200: told(
          "The descriptor, and the map if it is a map's.",
          Type.Object(
            { descriptor: Type.Ref("Descriptor"), map: Type.Optional(Type.Ref("BpfMap")) },
            { $id: "DescriptorAndMap", ...CLOSED },
          ),
          { descriptor: { ...EXAMPLE, kind: "pipe", map_id: null } },
        ),
        ...problems({}, ...IN_SESSION, "EBADF", ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { session, fd } = request.params;
      const state = stateOf(parts, request, reply);
      await askOwnSession(state, session, request.caller);
      const descriptor = (await askFds(state, session)).find((open) => open.fd === fd);
      if (descriptor === undefined)
        throw new Problem("EBADF", `fd ${fd} is not open in session ${session}`, { errno: "EBADF" });
      if (descriptor.map === 0) return { descriptor: descriptorJson(descriptor) };
      const reference = { id: descriptor.map };
      const map = await askMap(state, reference, String(descriptor.map));
      return { descriptor: descriptorJson(descriptor), map: mapJson(map) };
    },
  });
}

function openDescriptor(app: App, { parts }: RouteOptions<DescriptorParts>): void {
  app.post("/sessions/:session/fds", {
    schema: {
      operationId: "openDescriptor",
      summary: "Open a descriptor",
      description:
        "dup duplicates the descriptor `fd`. map opens a live map by id (BPF_MAP_GET_FD_BY_ID), name, or pin (BPF_OBJ_GET). All other " +
        "kinds open other objects, for maps that hold such objects or have them as keys: a program (prog) by `id`, by `pinned`, or a " +
        "new one that does nothing, of `prog_type`; a cgroup, a file or a directory by `path`, or a new one; a process (pidfd) by " +
        "`pid`; a perf event, a pipe, or a socket made for the session. If the kernel mirror is on, each descriptor stands for a real " +
        "object, and is refused if the kernel refuses it; `path` and `pinned` must be below the directories of MAPLEDGER_OPEN_ROOTS " +
        "(EACCES elsewhere). If the mirror is off, the object exists in the ledger only. A caller with read alone gets a read-only " +
        "descriptor, and may not make objects: only map, dup, pidfd, pidfd_self, and objects named by `path`, `id` or `pinned` are " +
        "allowed, without `prog_type`.",
      tags: TAGS,
      params: SessionParams,
      body: OpenDescriptorBody,
      response: {
        201: ran("The new descriptor, and the id of its map if it has one.", Type.Ref("Opened"), {
          fd: 4,
          map_id: 1,
          seq: 17,
        }),
        ...problems(
          { command: true, session: true, body: true },
          "EBADF",
          "ENOENT",
          "EINVAL",
          "EMFILE",
          "EACCES",
          "EPERM",
          "ENOTDIR",
          "ENAMETOOLONG",
          "EOPNOTSUPP",
          "ESRCH",
          "EAFNOSUPPORT",
          "EIO",
        ),
      },
    },
    handler: async (request, reply) => {
      const { caller, body } = request;
      const { session } = request.params;
      const action = asAllowed(parts, request, await openAction(presentOf(parts, request), body));
      const { outcome, seq } = await open(parts, reply, { ...action, session, caller });
      reply.code(201).header("location", `/v1/sessions/${session}/fds/${outcome.ret}`);
      return outcome.map === 0 ? { fd: outcome.ret, seq } : { fd: outcome.ret, map_id: outcome.map, seq };
    },
  });
}

function closeDescriptor(app: App, { parts }: RouteOptions<DescriptorParts>): void {
  app.delete("/sessions/:session/fds/:fd", {
    schema: {
      operationId: "closeDescriptor",
      summary: "Close a descriptor",
      description: "close(2). A map that nothing else holds is freed.",
      tags: TAGS,
      params: FdParams,
      response: {
        200: ran(
          "The seq of the event, and the ids of maps that were freed.",
          Type.Object(
            { freed: Type.Array(Type.Integer(), { description: "Maps that nothing holds any more." }), seq: seq() },
            { $id: "DescriptorClosed", ...CLOSED },
          ),
          { freed: [1], seq: 17 },
        ),
        ...problems({ command: true, session: true }, "EBADF"),
      },
    },
    handler: async ({ params: { session, fd }, caller }, reply) => {
      const attr = { reason: "close" } as const;
      const { outcome, seq } = await must(parts, reply, { cmd: CMD.CLOSE, session, caller, fd, attr });
      return { freed: outcome.out?.freed ?? [], seq };
    },
  });
}
