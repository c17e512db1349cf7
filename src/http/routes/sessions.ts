import type { Socket } from "node:net";
import type { TSchema } from "typebox";
import { CAPABILITIES, CMD } from "../../abi/service.ts";
import { InvalidInput } from "../../codec/invalid.ts";
import type { Settings } from "../../config.ts";
import type { ClientProcess } from "../../syscall/command.ts";
import { problems, ran, told } from "../schemas/answers.ts";
import { after, CLOSED, clientProcess, limit, nullable, SessionParams, seq, sessionTtl } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { must } from "../server/commands.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import { NDJSON } from "../server/negotiation.ts";
import type { ClientProcesses } from "../server/ports.ts";
import { AttachedStreams, HEARTBEAT_MS } from "../streams/attached_streams.ts";
import { AS_OF, AtQuery, at, type ReadParts, stateOf } from "../views/as_of.ts";
import { type AskedProcess, askedProcess, findProcess } from "../views/client_process.ts";
import { processJson, sessionJson } from "../views/json.ts";
import { askOwnSession, askSession } from "../views/lookups.ts";

const TAGS = ["sessions"];
const NAME_LENGTH_MAX = 255;
const PAGE_DEFAULT = 100;
/** The most sessions of a page, whatever its `limit`, because the descriptors of each are counted. */
const SESSIONS_MAX = 100;
const MS = 1000;

const EXAMPLE = {
  id: 1,
  name: "loader",
  caller: "anonymous",
  ttl_seconds: 600,
  opened_at: "2026-11-23T20:00:00.000000Z",
  lease: "ttl",
  process: null,
  left_seconds: 599.5,
  fd_count: 1,
  capabilities: ["CAP_BPF", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
};

interface SessionRouteParts extends ReadParts {
  /** The processes that the client of a connection may name; null: it is not a connection of the unix socket. */
  readonly processesAt: (connection: Socket) => ClientProcesses | null;
  readonly settings: Pick<Settings, "sessionTtlSeconds" | "sessionTtlMaxSeconds" | "pageElementsMax">;
}

/** Sessions, which stand for processes: a session owns descriptors, and lives by a lease. */
export async function sessionRoutes(app: App, options: RouteOptions<SessionRouteParts>): Promise<void> {
  openSession(app, options);
  listSessions(app, options);
  getSession(app, options);
  renewSession(app, options);
  const streams = new AttachedStreams(app);
  attachSession(app, options, streams);
  endSession(app, options, streams);
}

function openSession(app: App, { parts }: RouteOptions<SessionRouteParts>): void {
  const { sessionTtlSeconds, sessionTtlMaxSeconds } = parts.settings;
  app.post("/sessions", {
    schema: {
      operationId: "openSession",
      summary: "Open a session",
      description:
        "A session lives as long as commands or renewals arrive within `ttl_seconds`, or a stream is attached to it. With `process` it " +
        "lives exactly as long as that process.",
      tags: TAGS,
      "x-body-optional": true,
      body: Type.Object(
        {
          name: Type.Optional(
            Type.String({ maxLength: NAME_LENGTH_MAX, description: "A name for people who read lists of sessions." }),
          ),
          ttl_seconds: Type.Optional(ttlSeconds(sessionTtlMaxSeconds)),
          process: Type.Optional(askedProcess),
          capabilities: Type.Optional(
            Type.Array(Type.Enum([...CAPABILITIES], { type: "string" }), {
              uniqueItems: true,
              description:
                "The capabilities that bpf(2) finds the process to have; left out: all of them. Fewer are for testing.",
            }),
          ),
        },
        { $id: "OpenSessionBody", additionalProperties: false, examples: [{ name: "loader", ttl_seconds: 600 }] },
      ),
      response: {
        201: ran(
          "The new session: its id, and how long it lives.",
          Type.Object(
            {
              id: Type.Integer(),
              name: Type.String(),
              caller: Type.String(),
              ttl_seconds: sessionTtl(),
              lease: Type.Enum(["ttl", "process"], { type: "string" }),
              process: clientProcess(),
              seq: seq(),
            },
            { $id: "SessionOpened", ...CLOSED },
          ),
          { id: 1, name: "loader", caller: "anonymous", ttl_seconds: 600, lease: "ttl", process: null, seq: 17 },
        ),
        ...problems({ command: true, body: true }, "no-process", "process-foreign", "process-hidden", "EAGAIN"),
      },
    },
    preValidation: optionalBody,
    handler: async (request, reply) => {
      const { caller, body } = request;
      const { name = "" } = body;
      const { capabilities } = body;
      const process = processOf(parts, request.raw.socket, body);
      // A session that lives by a process gets a TTL for replays on machines without that process: the longest.
      const fallback = process === undefined ? sessionTtlSeconds : sessionTtlMaxSeconds;
      const ttl = body.ttl_seconds ?? Math.min(fallback, sessionTtlMaxSeconds);
      const attr = {
        name,
        ttlMs: ttl * MS,
        ...(capabilities === undefined ? {} : { capabilities }),
        ...(process === undefined ? {} : { process }),
      };
      const { outcome, seq } = await must(parts, reply, { cmd: CMD.SESSION_OPEN, session: 0, caller, attr });
      const id = outcome.out?.session_id as number;
      reply.code(201).header("location", `/v1/sessions/${id}`);
      const lives =
        process === undefined
          ? { ttl_seconds: ttl, lease: "ttl", process: null }
          : { ttl_seconds: null, lease: "process", process: processJson(process) };
      return { id, name, caller, ...lives, seq };
    },
  });
}

interface Asked {
  readonly ttl_seconds?: number;
  readonly process?: AskedProcess;
}

/** The process that the session will live by; undefined: it lives by its TTL, or by a stream. */
function processOf(
  { processesAt }: SessionRouteParts,
  connection: Socket,
  { ttl_seconds, process }: Asked,
): ClientProcess | undefined {
  if (process === undefined) return undefined;
  if (ttl_seconds !== undefined)
    throw new InvalidInput("ttl_seconds", "a session lives by a process or by a TTL, not by both");
  return findProcess(processesAt(connection), connection, process);
}

function listSessions(app: App, { parts }: RouteOptions<SessionRouteParts>): void {
  app.get("/sessions", {
    schema: {
      operationId: "listSessions",
      summary: "List live sessions",
      tags: TAGS,
      querystring: Type.Object({
        after,
        limit: limit(parts.settings.pageElementsMax, PAGE_DEFAULT),
        at,
      }),
      response: {
        200: told(
          "A page of live sessions, ordered by id.",
          Type.Object(
            { sessions: Type.Array(Type.Ref("Session")), next: nullable("integer") },
            { $id: "SessionPage", ...CLOSED },
          ),
          { sessions: [EXAMPLE], next: null },
        ),
        ...problems({}, ...AS_OF),
      },
    },
    handler: async (request, reply) => {
      const { after, limit } = request.query;
      const query = { after, limit: Math.min(limit, SESSIONS_MAX) };
      const sessions = await stateOf(parts, request, reply).query("sessions", query);
      const next = sessions.length === query.limit ? (sessions.at(-1)?.id ?? null) : null;
      return { sessions: sessions.map(sessionJson), next };
    },
  });
}

function getSession(app: App, { parts }: RouteOptions<SessionRouteParts>): void {
  app.get("/sessions/:session", {
    schema: {
      operationId: "getSession",
      summary: "Get a session",
      tags: TAGS,
      params: SessionParams,
      querystring: AtQuery,
      response: {
        200: told("The session with its lease and its capabilities.", Type.Ref("Session"), EXAMPLE),
        ...problems({}, "no-such-session", "session-ended", ...AS_OF),
      },
    },
    handler: async (request, reply) =>
      sessionJson(await askSession(stateOf(parts, request, reply), request.params.session)),
  });
}

function renewSession(app: App, { parts }: RouteOptions<SessionRouteParts>): void {
  app.post("/sessions/:session/renew", {
    schema: {
      operationId: "renewSession",
      summary: "Renew a session's lease",
      description:
        "The session has its whole TTL again, or the TTL that is given. The lease of a session that lives by a process or a stream does not change.",
      tags: TAGS,
      params: SessionParams,
      "x-body-optional": true,
      body: Type.Object(
        { ttl_seconds: Type.Optional(ttlSeconds(parts.settings.sessionTtlMaxSeconds)) },
        { $id: "RenewSessionBody", additionalProperties: false, examples: [{ ttl_seconds: 3600 }] },
      ),
      response: {
        200: ran("The seq of the event that renewed the lease.", Type.Ref("Done"), { seq: 17 }),
        ...problems({ command: true, session: true, body: true }),
      },
    },
    preValidation: optionalBody,
    handler: async (request, reply) => {
      const { ttl_seconds: ttl } = request.body;
      const { caller, params } = request;
      const attr = { ttlMs: ttl === undefined ? null : ttl * MS };
      const { seq } = await must(parts, reply, { cmd: CMD.SESSION_RENEW, session: params.session, caller, attr });
      return { seq };
    },
  });
}

function endSession(app: App, { parts }: RouteOptions<SessionRouteParts>, streams: AttachedStreams): void {
  app.delete("/sessions/:session", {
    schema: {
      operationId: "endSession",
      summary: "End a session",
      description:
        "Closes each descriptor of the session, each with an event of its own. Maps that nothing else holds are freed.",
      tags: TAGS,
      params: SessionParams,
      response: {
        200: ran("The seq of the event that ended the session.", Type.Ref("Done"), { seq: 17 }),
        ...problems({ command: true, session: true }),
      },
    },
    handler: async ({ params: { session }, caller }, reply) => {
      const attr = { reason: "ended by request" } as const;
      const { seq } = await must(parts, reply, { cmd: CMD.SESSION_END, session, caller, attr });
      streams.endOf(session);
      return { seq };
    },
  });
}

const AttachedLine: TSchema = Type.Object(
  { session: Type.Integer(), attached: Type.Boolean() },
  { $id: "AttachedLine", ...CLOSED, description: "Each line of the stream." },
);

function attachSession(
  app: App,
  { parts: { engine } }: RouteOptions<SessionRouteParts>,
  streams: AttachedStreams,
): void {
  app.post("/sessions/:session/attach", {
    schema: {
      operationId: "attachSession",
      summary: "Attach a session to a stream",
      description:
        "The session lives by its streams: it ends when the last has broken and the grace time is over. A line says that the session is " +
        `attached, and is repeated every ${HEARTBEAT_MS / MS} seconds. A session that lives by a process still lives by it alone.`,
      tags: TAGS,
      params: SessionParams,
      response: {
        200: {
          description: "A stream of lines that each say whether the session is attached.",
          content: {
            [NDJSON]: { schema: AttachedLine, example: { session: 1, attached: true } },
          },
        },
        ...problems({}, "no-such-session", "session-ended", "session-foreign"),
      },
    },
    handler: async ({ params: { session }, caller }, reply) => {
      await askOwnSession(engine, session, caller);
      // The session may have ended since: then this throws the Problem that says so.
      if (!(await engine.query("attach", { session }))) await askSession(engine, session);
      const stream = streams.open(session, async () => {
        const view = await engine.query("session", { id: session });
        return typeof view !== "string";
      });
      stream.once("close", () => {
        // At a stop of the service the lease stays as it is.
        if (!streams.closing) engine.query("detach", { session }).catch(() => {});
      });
      return reply.type(NDJSON).send(stream);
    },
  });
}

async function optionalBody(request: { body: unknown }): Promise<void> {
  request.body ??= {};
}

const ttlSeconds = (most: number) =>
  Type.Integer({
    minimum: 1,
    maximum: most,
    description: "The seconds that the session lives without a command or a renewal.",
  });
