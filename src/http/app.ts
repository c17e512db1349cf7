import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import type { TlsOptions } from "node:tls";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import fastify, {
  type FastifyError,
  type FastifyReply,
  type FastifyRequest,
  type RouteOptions as FastifyRouteOptions,
  LogController,
} from "fastify";
import { InvalidInput } from "../codec/invalid.ts";
import { EventsArchived } from "../engine/archives.ts";
import { CallerGone, EngineBusy, EngineClosed, EngineLost } from "../engine/client.ts";
import { inLine } from "../net/pipelines.ts";
import { NotYet } from "../past/past.ts";
import { NoThread } from "../supervisor/asked_thread.ts";
import { PartFailed } from "../supervisor/derived_parts.ts";
import type { App, Parts, RouteOptions } from "./parts.ts";
import { adoptRoutes } from "./routes/adopt.ts";
import { archiveRoutes } from "./routes/archive.ts";
import { batchRoutes } from "./routes/batches.ts";
import { descriptorRoutes } from "./routes/descriptors.ts";
import { doorRoutes } from "./routes/door.ts";
import { elementRoutes } from "./routes/elements.ts";
import { eventRoutes } from "./routes/events.ts";
import { proofRoutes, tileRoutes } from "./routes/evidence.ts";
import { historyRoutes } from "./routes/history.ts";
import { mapRoutes } from "./routes/maps.ts";
import { memoryRoutes } from "./routes/memory.ts";
import { mirrorRoutes } from "./routes/mirror.ts";
import { mirrorOrderRoutes } from "./routes/mirror_orders.ts";
import { pinRoutes } from "./routes/pins.ts";
import { REPLAY_SCHEMAS, replayRoutes } from "./routes/replays.ts";
import { serviceRoutes } from "./routes/service.ts";
import { sessionRoutes } from "./routes/sessions.ts";
import { watchRoutes } from "./routes/watch.ts";
import { LogEventSchema } from "./schemas/events.ts";
import { SHARED } from "./schemas/fields.ts";
import { checkScopes, checkSeesAll, isAllowed } from "./server/access.ts";
import { archivedProblem } from "./server/archive_problem.ts";
import { checkOrigin, type Identity } from "./server/auth.ts";
import { addBodies } from "./server/bodies.ts";
import { addAnswers } from "./server/bulk.ts";
import { contextOf, type Tls } from "./server/certificates.ts";
import { type OpenApiVersion, registerDocument } from "./server/document.ts";
import { hotPath } from "./server/hot.ts";
import { Names } from "./server/names.ts";
import { Problem, partProblem, SAFETY_HEADERS, StatusProblem } from "./server/problems.ts";
import { logRead } from "./server/read_log.ts";
import type { Pending } from "./server/requests_under_way.ts";
import { ALSO_READ, type Need, OF_ALL_MAPS, PUBLIC_EVIDENCE, READ_ONLY, ROUTE_SCOPES } from "./server/route_scopes.ts";
import { Slashes } from "./server/slashes.ts";
import { validationFault, validators } from "./server/validation.ts";
import { refusedType } from "./server/wanted_bodies.ts";

export type { App, EngineDoor, Parts } from "./parts.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** What a caller needs. */
    need?: Need;
    /** It shows values besides. */
    alsoReads?: boolean;
    /** Its answer is of all maps. */
    ofAll?: boolean;
    /** Whoever asks is answered. */
    isPublic?: boolean;
    /** It changes something, or asks a kernel, and the service only reads. */
    isRefused?: boolean;
  }
}

/** Bytes of request line and headers: room for a key of 15,000 bytes in hex. */
const HEADER_BYTES_MAX = 32 * 1024;
const PREFIX = "/v1";

/**
 * The service over HTTP, put together and ready to listen; the engine behind it is the caller's to start and close. `openapi`: of
 * which version its document is.
 */
export async function buildApp(parts: Parts, openapi: OpenApiVersion = "3.1.0"): Promise<App> {
  const slashes = new Slashes();
  const names = new Names();
  const app = newApp(parts, slashes, names);
  app.addHook("onRoute", ({ url }) => slashes.add(url));
  names.referring([...SHARED, LogEventSchema, ...REPLAY_SCHEMAS]);
  addChecks(app, parts);
  addReadLog(app, parts);
  addBodies(app, parts);
  addAnswers(app, parts);
  addProblems(app);
  app.addHook("onRoute", (route) => names.nameIn(route));
  await registerDocument(app, parts.version, openapi);
  const options: RouteOptions = { parts };
  await app.register(serviceRoutes, options);
  await app.register(tileRoutes, options);
  for (const routes of ROUTES) await app.register(routes, { ...options, prefix: PREFIX });
  // For the document: validators and serializers have them already.
  for (const schema of Object.values(names.schemas)) app.addSchema(schema);
  await app.ready();
  return app;
}

const ROUTES = [
  doorRoutes,
  sessionRoutes,
  descriptorRoutes,
  elementRoutes,
  batchRoutes,
  memoryRoutes,
  mapRoutes,
  mirrorRoutes,
  adoptRoutes,
  mirrorOrderRoutes,
  pinRoutes,
  eventRoutes,
  archiveRoutes,
  historyRoutes,
  proofRoutes,
  watchRoutes,
  replayRoutes,
] as const;

function newApp(parts: Parts, slashes: Slashes, names: Names): App {
  const { settings, logger } = parts;
  const compileValidator = validators(names);
  return fastify({
    ...(logger === undefined ? { logger: { level: settings.logLevel } } : { loggerInstance: logger }),
    bodyLimit: settings.bodyBytesMax,
    exposeHeadRoutes: true,
    return503OnClosing: false,
    logController: new LogController({ disableRequestLogging: true }),
    serverFactory: (route) => serverOf(parts, route as RequestListener),
    routerOptions: { maxParamLength: HEADER_BYTES_MAX },
    rewriteUrl: ({ url = "" }) => slashes.encoded(url),
    schemaErrorFormatter: validationFault,
    schemaController: {
      compilersFactory: { buildSerializer: names.serializers, buildValidator: () => compileValidator as never },
    },
    frameworkErrors: (error, request, reply) => sendProblem(request, reply as FastifyReply, problemOf(error)),
  }).withTypeProvider<TypeBoxTypeProvider>() as unknown as App;
}

/** Idle connections end after this; Fastify's own choice, longer than load balancers'. */
const KEEP_ALIVE_MS = 72_000;

/** Another server for the same routes, for the unix socket. */
export function unixServer(app: App, parts: Parts): Server {
  return serverOf({ ...parts, tls: null }, (request, response) => app.routing(request, response));
}

/** Node's server: what carries the load is answered before Fastify routes the rest. */
function serverOf(parts: Parts, route: RequestListener): Server {
  const hot = parts.present === undefined ? hotPath(parts, problemOf) : () => false;
  const options = { maxHeaderSize: HEADER_BYTES_MAX, keepAliveTimeout: KEEP_ALIVE_MS };
  const answer = inLine((request, response) => {
    if (!hot(request, response)) route(request, response);
  });
  const server =
    parts.tls === null
      ? createServer(options, answer)
      : createTlsServer({ ...options, ...tlsOptions(parts.tls) }, answer);
  return server.on("clientError", (error, socket) => answerUnreadable(error, socket as Socket));
}

/** A client's certificate is asked for; who has none may have a token. */
function tlsOptions(tls: Tls): TlsOptions {
  return { ...contextOf(tls), ...(tls.clientCa !== null && { requestCert: true, rejectUnauthorized: false }) };
}

const NO_CHANGES = "the service is read-only: it was started with --read-only, and nothing can be changed";

/** What every request passes before its route. */
function addChecks(app: App, parts: Parts): void {
  const { identity, ready, settings, unknownCallers } = parts;
  app.removeContentTypeParser("text/plain");
  app.addHook("onRoute", (route) => {
    const operation = operationOf(route);
    const isPublic = settings.publicEvidence === "on" && PUBLIC_EVIDENCE.has(operation);
    const [alsoReads, ofAll] = [ALSO_READ.has(operation), OF_ALL_MAPS.has(operation)];
    const isRefused = parts.present !== undefined && needOf(route) !== "open" && !READ_ONLY.has(operation);
    route.config = { ...route.config, need: needOf(route), alsoReads, ofAll, isPublic, isRefused };
  });
  app.decorateRequest("isAnybodys", false);
  app.decorateRequest("caller", "");
  app.decorateRequest("peer");
  app.decorateRequest("scopes");
  app.decorateRequest("limits");
  app.addHook("onRequest", async (request, reply) => {
    reply.headers(SAFETY_HEADERS);
    checkOrigin(request, identity);
    const { need } = request.routeOptions.config;
    // Open ones are answered while the service is not ready, too.
    if (need === "open") return;
    if (request.routeOptions.config.isPublic && !isKnown(identity, request)) {
      request.isAnybodys = true;
      checkReady(ready);
      return;
    }
    const caller = unknownCallers.watch(request.raw, (raw) => identity.callerOf(raw));
    request.caller = caller.name;
    parts.flight.isOf(request.raw, caller.name);
    request.peer = identity.peerOf(request.raw);
    request.scopes = caller.scopes;
    request.limits = caller.limits;
    checkReady(ready);
    if (request.routeOptions.config.isRefused === true) throw new Problem("read-only", NO_CHANGES);
    if (need !== undefined && need !== "by command") checkScopes(parts, request, need);
    if (request.routeOptions.config.alsoReads === true) checkScopes(parts, request, ["read"]);
    if (request.routeOptions.config.ofAll === true) checkSeesAll(parts, request);
    follow(parts, request, reply, need);
  });
}

/** Who reads what no event tells of. */
function addReadLog(app: App, { settings }: Parts): void {
  if (settings.readLog === "off") return;
  app.addHook("preHandler", async (request) => logRead(request, operationOf(request.routeOptions)));
}

function checkReady(ready: Parts["ready"]): void {
  const reason = ready();
  if (reason !== null) throw new Problem("unavailable", reason);
}

/** Whether somebody who may see the log's evidence sends a request. */
function isKnown(identity: Identity, { raw }: FastifyRequest): boolean {
  try {
    return isAllowed(identity.callerOf(raw).scopes, ["evidence"]);
  } catch {
    return false;
  }
}

/** A caller who may no longer have what he has begun does not get the rest. */
function follow(
  { identity, underWay }: Parts,
  request: FastifyRequest,
  reply: FastifyReply,
  need: Need | undefined,
): void {
  const { raw, caller, limits } = request;
  const pending: Pending = {
    isAllowed() {
      try {
        const { name, scopes, limits: now } = identity.callerOf(raw);
        if (now?.id !== limits?.id) return false;
        return name === caller && (need === undefined || typeof need === "string" || isAllowed(scopes, need));
      } catch {
        return false;
      }
    },
    end: () => reply.raw.destroy(),
  };
  underWay.add(pending);
  reply.raw.once("close", () => underWay.delete(pending));
}

/** Throws where a route is not in the table of what each needs. */
function needOf(route: FastifyRouteOptions): Need {
  const { url } = route;
  if (url === "/" || url.startsWith("/docs")) return "open";
  const operation = operationOf(route);
  const need = Object.hasOwn(ROUTE_SCOPES, operation) ? ROUTE_SCOPES[operation] : undefined;
  if (need === undefined) throw new Error(`registering ${url}: no scope is said for its operation "${operation}"`);
  return need;
}

function operationOf({ schema }: { readonly schema?: unknown }): string {
  return (schema as { operationId?: string } | undefined)?.operationId ?? "";
}

function addProblems(app: App): void {
  const methods = new Map<string, string[]>();
  app.addHook("onRoute", ({ url, method }) => {
    methods.set(url, [...(methods.get(url) ?? []), ...[method].flat()]);
  });
  app.setErrorHandler((error: unknown, request, reply) => {
    const isOfNoType = (error as Partial<FastifyError>).code === "FST_ERR_CTP_INVALID_MEDIA_TYPE";
    return sendProblem(request, reply, isOfNoType ? refusedType(request) : problemOf(error));
  });
  app.setNotFoundHandler((request, reply) => {
    const [pathname = ""] = request.url.split("?");
    const allowed = [...methods].find(([url]) => matches(url, pathname))?.[1];
    const problem =
      allowed === undefined
        ? new Problem("no-such-route", `there is nothing at ${pathname}`)
        : new Problem("method-not-allowed", `${request.method} is not taken here`, {}, { allow: allowed.join(", ") });
    return sendProblem(request, reply, problem);
  });
}

/** Whether a path is one of a route's: its parameters are what stands between slashes, a last * is all the rest. */
function matches(route: string, pathname: string): boolean {
  const wanted = route.split("/");
  const given = pathname.split("/");
  if (wanted.at(-1) === "*" && given.length >= wanted.length) {
    wanted.pop();
    given.length = wanted.length;
  }
  return wanted.length === given.length && wanted.every((name, at) => name.startsWith(":") || name === given[at]);
}

function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.cause !== undefined)
    request.log.error({ err: problem.cause }, `answering ${request.method} ${request.url}`);
  return reply
    .code(problem.status)
    .headers({ ...SAFETY_HEADERS, ...problem.headers })
    .type("application/problem+json")
    .send(problem.text());
}

/** What was thrown, as what it is answered with. What no caller can cause is a bug: logged, and told of no further. */
function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof InvalidInput) return new Problem("invalid-input", error.message, { where: error.where });
  if (error instanceof PartFailed) return partProblem(error);
  if (error instanceof EngineLost) return new Problem("outcome-unknown", error.message);
  if (error instanceof EngineBusy) return new Problem("busy", error.message);
  if (error instanceof EventsArchived) return archivedProblem(error.oldestSeq);
  if (error instanceof NotYet) return new Problem("no-such-event", error.message);
  if (error instanceof EngineClosed || error instanceof CallerGone || error instanceof NoThread)
    return new Problem("unavailable", error.message);
  const { statusCode = 500, message } = error as Partial<FastifyError>;
  switch (statusCode) {
    case 400:
      return new Problem("invalid-input", message ?? "");
    case 408:
      return new Problem("request-timeout", message ?? "");
    case 413:
      return new Problem("body-too-large", message ?? "");
    case 414:
      return new Problem("header-too-large", message ?? "");
    case 415:
      return new Problem("unsupported-media-type", message ?? "");
    default:
      if (statusCode > 400 && statusCode < 500) return new StatusProblem(statusCode, message ?? "");
      return new Problem("bug", "the service failed; its log tells more", {}, {}, error);
  }
}

/** What Node's parser could not read: there is no request to answer, only a socket. */
function answerUnreadable(error: Error & { code?: string }, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  const problem =
    error.code === "HPE_HEADER_OVERFLOW"
      ? new Problem("header-too-large", `they have more than ${HEADER_BYTES_MAX} bytes`)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? new Problem("request-timeout", "the request was not complete")
        : new Problem("invalid-input", "this is not HTTP/1.1");
  const text = problem.text();
  const head = [
    `HTTP/1.1 ${problem.status} ${problem.name}`,
    "content-type: application/problem+json; charset=utf-8",
    `content-length: ${Buffer.byteLength(text)}`,
    ...Object.entries(SAFETY_HEADERS).map(([name, value]) => `${name}: ${value}`),
    "connection: close",
  ];
  if (socket.writable) socket.write(`${head.join("\r\n")}\r\n\r\n${text}`);
  socket.destroySoon();
}
