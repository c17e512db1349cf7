import type { FastifyReply } from "fastify";
import { Type } from "typebox";
import { BPF_F } from "../../abi/bpf.ts";
import { ID_MAX } from "../../abi/limits.ts";
import { CMD, OPEN_KINDS } from "../../abi/service.ts";
import { type ObjectBody, readCreateBody, readObject } from "../../codec/body.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Request } from "../../engine/request.ts";
import type { Action, OpenCommand, OpenKind, Origin } from "../../syscall/command.ts";
import { body, problems, ran, told } from "../schemas/answers.ts";
import { CreateSchema } from "../schemas/attr.ts";
import { CLOSED, FdParams, oneOf, SessionParams, seq } from "../schemas/fields.ts";
import { asAllowed } from "../server/access.ts";
import { must, type Ran } from "../server/commands.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import type { ObjectOpener } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";
import { bodyByHand } from "../server/validation.ts";
import { AS_OF, type Asked, AtQuery, presentOf, type ReadParts, stateOf } from "../views/as_of.ts";
import { descriptorJson, mapJson } from "../views/json.ts";
import { askFds, askMap, askOwnSession } from "../views/lookups.ts";
import { readTarget } from "../views/targets.ts";

const TAGS = ["descriptors"];
const IN_SESSION = ["no-such-session", "session-ended", "session-foreign"] as const;
const EXAMPLE = { fd: 3, kind: "map", map_id: 1, access: "rw", object: null };
const PATH_LENGTH_MAX = 4095;
/** PID_MAX_LIMIT, include/linux/threads.h. */
const PID_MAX = 4_194_304;

interface DescriptorParts extends ReadParts {
  /** null: no machine has real objects for this service. */
  readonly objects: ObjectOpener | null;
}

/** A session's descriptors: what opens and closes them. */
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
      description: "BPF_MAP_CREATE: a map, held by a descriptor of the session.",
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
        201: ran("The map is created.", Type.Ref("Opened"), { fd: 3, map_id: 1, seq: 17 }),
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
      summary: "A session's open descriptors",
      tags: TAGS,
      params: SessionParams,
      querystring: AtQuery,
      response: {
        200: told("All of them.", DescriptorList, { fds: [EXAMPLE] }),
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
      summary: "A descriptor, and the map that it is of",
      tags: TAGS,
      params: FdParams,
      querystring: AtQuery,
      response: {
        200: told(
          "The descriptor.",
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

const Constant = oneOf([Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1 }), Type.String({ maxLength: 64 })], {
  $id: "Constant",
  description: "A number, or its name in <linux/bpf.h>.",
});

interface OpenBody extends ObjectBody {
  readonly kind: "dup" | "map" | OpenKind;
  readonly fd?: number;
  readonly map?: string | number;
  readonly access?: keyof typeof ACCESS;
}

const ACCESS = { rw: 0, r: BPF_F.BPF_F_RDONLY, w: BPF_F.BPF_F_WRONLY } as const;

function openDescriptor(app: App, { parts }: RouteOptions<DescriptorParts>): void {
  app.post("/sessions/:session/fds", {
    schema: {
      operationId: "openDescriptor",
      summary: "Open a descriptor",
      description:
        "kind dup: of `fd`'s open file. map: of a map that lives, by id (BPF_MAP_GET_FD_BY_ID), name, or pin " +
        "(BPF_OBJ_GET). All others are of what is no map, for maps that hold such things or have them for keys: a " +
        "program (prog) by `id`, by `pinned`, or a new one that does nothing, of `prog_type`; a cgroup or a file or a " +
        "directory by `path`, or a new one; a process (pidfd) by `pid`; a perf event, a pipe, or a socket made for the " +
        "session. Where the kernel mirror is on, each stands for a real object, and what the kernel refuses is refused; " +
        "`path` and `pinned` are opened below the directories of MAPLEDGER_OPEN_ROOTS (EACCES elsewhere); " +
        "elsewhere it exists in the ledger only. With read alone the descriptor is read-only, and what would have to be " +
        "made is refused: every kind but map, dup, pidfd, pidfd_self, and those named by `path`, `id` or `pinned`; so is " +
        "`prog_type`.",
      tags: TAGS,
      params: SessionParams,
      body: Type.Object(
        {
          kind: Type.Enum(["dup", "map", ...OPEN_KINDS], { type: "string" }),
          fd: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1, description: "For dup." })),
          map: Type.Optional(
            oneOf([Type.Integer({ minimum: 0, maximum: ID_MAX }), Type.String()], {
              $id: "MapReference",
              description: "For map: its id, name:NAME or pinned:PATH.",
            }),
          ),
          access: Type.Optional(
            Type.Enum(["rw", "r", "w"], {
              type: "string",
              description:
                "Not for dup; rw unless given, or what the caller's scopes leave of it. Other objects than maps take no w.",
            }),
          ),
          path: Type.Optional(
            Type.String({ minLength: 1, maxLength: PATH_LENGTH_MAX, description: "For file, dir, cgroup: absolute." }),
          ),
          pid: Type.Optional(Type.Integer({ minimum: 1, maximum: PID_MAX, description: "For pidfd." })),
          id: Type.Optional(Type.Integer({ minimum: 1, maximum: ID_MAX, description: "For prog: the kernel's id." })),
          pinned: Type.Optional(
            Type.String({ minLength: 1, maxLength: PATH_LENGTH_MAX, description: "For prog: where it is pinned." }),
          ),
          reuseport: Type.Optional(Type.Boolean({ description: "For tcp and udp sockets: SO_REUSEPORT." })),
          prog_type: Type.Optional(Constant),
          expected_attach_type: Type.Optional(Constant),
        },
        {
          $id: "OpenDescriptorBody",
          ...CLOSED,
          description:
            "For prog: `prog_type` is of enum bpf_prog_type, of a program of the ledger's own, and `expected_attach_type` of enum bpf_attach_type, as it was loaded with.",
          examples: [{ kind: "map", map: "pinned:/sys/fs/bpf/counters", access: "r" }],
        },
      ),
      response: {
        201: ran("The descriptor is open.", Type.Ref("Opened"), { fd: 4, map_id: 1, seq: 17 }),
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
      const action = asAllowed(parts, request, await openAction(presentOf(parts, request), body as OpenBody));
      const { outcome, seq } = await open(parts, reply, { ...action, session, caller } as Request);
      reply.code(201).header("location", `/v1/sessions/${session}/fds/${outcome.ret}`);
      return outcome.map === 0 ? { fd: outcome.ret, seq } : { fd: outcome.ret, map_id: outcome.map, seq };
    },
  });
}

/** Asks the machine for a real object first, if the session is the caller's: without that no path is looked at. */
async function open(parts: DescriptorParts, reply: FastifyReply, request: Request): Promise<Ran> {
  const { engine, objects } = parts;
  if (!isOpen(request) || objects === null) return must(parts, reply, request);
  const { session, caller } = request;
  const opened = (await engine.query("opens", { session, caller })) ? await objects.open(request.attr) : null;
  if (opened === null) return must(parts, reply, request);
  if ("later" in opened) throw new Problem("unavailable", opened.later);
  try {
    return await must(parts, reply, { ...request, attr: { ...request.attr, ...opened } });
  } catch (error) {
    // A command that was run has its problem, and its object is the engine's.
    if (!(error instanceof Problem)) objects.discard(opened);
    throw error;
  }
}

function isOpen(request: Request): request is OpenCommand & Omit<Origin, "timeUs"> {
  return request.cmd === CMD.OPEN && !("unknown" in request);
}

async function openAction(state: Asked, { kind, fd, map, access, ...object }: OpenBody): Promise<Action> {
  if (fd !== undefined && kind !== "dup") throw new InvalidInput("fd", `not allowed for kind ${kind}`);
  if (map !== undefined && kind !== "map") throw new InvalidInput("map", `not allowed for kind ${kind}`);
  switch (kind) {
    case "dup":
      if (access !== undefined) throw new InvalidInput("access", "not allowed for kind dup");
      if (fd === undefined) throw new InvalidInput("fd", "required");
      return { cmd: CMD.DUP, fd };
    case "map":
      if (map === undefined) throw new InvalidInput("map", "required");
      return openMapAction(state, String(map), ACCESS[access ?? "rw"]);
    default:
      if (access === "w") throw new InvalidInput("access", `a ${kind} takes r or rw`);
      return {
        cmd: CMD.OPEN,
        attr: { ...readObject(kind, object), ...(access === "r" && { openFlags: BPF_F.BPF_F_RDONLY }) },
      };
  }
}

async function openMapAction(state: Asked, reference: string, flags: number): Promise<Action> {
  const target = readTarget(reference, "map");
  switch (target.by) {
    case "id":
      return { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: target.id, openFlags: flags } };
    case "name": {
      const { id } = await askMap(state, { name: target.name }, reference, ["read", "write"]);
      return { cmd: CMD.BPF_MAP_GET_FD_BY_ID, attr: { mapId: id, openFlags: flags } };
    }
    case "pinned":
      return { cmd: CMD.BPF_OBJ_GET, attr: { pathname: target.pathname, fileFlags: flags, pathFd: 0, bpfFd: 0 } };
  }
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
          "The descriptor is closed.",
          Type.Object(
            { freed: Type.Array(Type.Integer(), { description: "Maps that went with it." }), seq: seq() },
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
