/** Puts the service over HTTP together: the Fastify instance, its hooks, and all routes. */

import type { RequestListener, Server, ServerOptions } from "node:http";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import fastify, { type FastifyReply, LogController, type RawServerDefault } from "fastify";
import type { Parts } from "./parts.ts";
import { adoptRoutes } from "./routes/adopt.ts";
import { archiveRoutes } from "./routes/archive.ts";
import { batchRoutes } from "./routes/batches.ts";
import { btfRoutes } from "./routes/btf.ts";
import { descriptorRoutes } from "./routes/descriptors.ts";
import { doorRoutes } from "./routes/door.ts";
import { elementRoutes } from "./routes/elements.ts";
import { eventImportRoutes } from "./routes/event_import.ts";
import { eventRoutes } from "./routes/events.ts";
import { proofRoutes, tileRoutes } from "./routes/evidence.ts";
import { historyRoutes } from "./routes/history.ts";
import { mapRoutes } from "./routes/maps.ts";
import { memoryRoutes } from "./routes/memory.ts";
import { mirrorRoutes } from "./routes/mirror.ts";
import { mirrorOrderRoutes } from "./routes/mirror_orders.ts";
import { mirrorStatusRoutes } from "./routes/mirror_status.ts";
import { pinRoutes } from "./routes/pins.ts";
import { replayRoutes } from "./routes/replays.ts";
import { restoreRoutes } from "./routes/restore.ts";
import { serviceRoutes } from "./routes/service.ts";
import { sessionRoutes } from "./routes/sessions.ts";
import { watchRoutes } from "./routes/watch.ts";
import { LogEventSchema } from "./schemas/events.ts";
import { SHARED } from "./schemas/fields.ts";
import { REPLAY_SCHEMAS } from "./schemas/replays.ts";
import { addBodies } from "./server/bodies.ts";
import { addAnswers } from "./server/bulk.ts";
import { addDocs } from "./server/docs.ts";
import type { OpenApiVersion } from "./server/document.ts";
import type { App, RouteOptions } from "./server/instance.ts";
import { Names } from "./server/names.ts";
import { HEADER_BYTES_MAX, PASSED_ON, serverOf } from "./server/node_server.ts";
import { addProblems, problemOf, sendProblem } from "./server/problem_answers.ts";
import { addChecks, addReadLog } from "./server/request_checks.ts";
import { Slashes } from "./server/slashes.ts";
import { validationFault, validators } from "./server/validation.ts";

const PREFIX = "/v1";

/**
 * Builds the service, ready to listen. The caller starts and closes the engine behind it. `openapi`: the version of
 * OpenAPI in which `app.swagger()` writes the API's document; null: it does not, and the start is faster.
 */
export async function buildApp(parts: Parts, openapi: OpenApiVersion | null = null): Promise<App> {
  const slashes = new Slashes();
  const names = new Names();
  const app = newApp(parts, slashes, names);
  app.addHook("onRoute", ({ url }) => slashes.add(url));
  names.collect([...SHARED, LogEventSchema, ...REPLAY_SCHEMAS]);
  addChecks(app, parts);
  addReadLog(app, parts);
  addBodies(app, parts);
  addAnswers(app, parts);
  addProblems(app);
  app.addHook("onRoute", (route) => names.collectIn(route));
  if (openapi !== null) {
    app.addHook("onRoute", (route) => names.nameIn(route));
    const { registerDocument } = await import("./server/document.ts");
    await registerDocument(app, parts.version, openapi);
  }
  addDocs(app);
  const options = { parts };
  await app.register(serviceRoutes, options);
  await app.register(tileRoutes, options);
  for (const routes of ROUTES) await app.register(routes, { ...options, prefix: PREFIX });
  // Validators and serializers have the named schemas already.
  if (openapi !== null) for (const schema of Object.values(names.schemas)) app.addSchema(schema);
  await app.ready();
  return app;
}

/** A second server with the same routes, for the unix socket: it has no TLS. */
export function unixServer(app: App, parts: Parts): Server {
  return secondServer(app, parts);
}

/** The same for the connections by which HTTP threads pass requests on. */
export function passedOnServer(app: App, parts: Parts): Server {
  return secondServer(app, parts, PASSED_ON);
}

function secondServer(app: App, parts: Parts, more?: ServerOptions): Server {
  return serverOf({ ...parts, tls: null }, (request, response) => app.routing(request, response), more);
}

type Routes = (app: App, options: RouteOptions<Parts>) => Promise<void>;

const ROUTES: readonly Routes[] = [
  doorRoutes,
  sessionRoutes,
  descriptorRoutes,
  elementRoutes,
  batchRoutes,
  memoryRoutes,
  mapRoutes,
  mirrorRoutes,
  adoptRoutes,
  mirrorStatusRoutes,
  mirrorOrderRoutes,
  pinRoutes,
  btfRoutes,
  eventRoutes,
  archiveRoutes,
  historyRoutes,
  restoreRoutes,
  proofRoutes,
  watchRoutes,
  replayRoutes,
  eventImportRoutes,
];

function newApp(parts: Parts, slashes: Slashes, names: Names): App {
  const { settings, logger } = parts;
  const compileValidator = validators(names);
  return fastify<RawServerDefault>({
    ...(logger === undefined ? { logger: { level: settings.logLevel } } : { loggerInstance: logger }),
    bodyLimit: settings.bodyBytesMax,
    exposeHeadRoutes: true,
    return503OnClosing: false,
    logController: new LogController({ disableRequestLogging: true }),
    serverFactory: (route) => serverOf(parts, route as RequestListener),
    // serverOf() answers what is no request, on each server.
    clientErrorHandler() {},
    routerOptions: { maxParamLength: HEADER_BYTES_MAX },
    rewriteUrl: ({ url = "" }) => slashes.encoded(url),
    schemaErrorFormatter: validationFault,
    schemaController: {
      // Fastify's type allows only Ajv's own compilers here; Fastify itself calls any compiler.
      compilersFactory: { buildSerializer: names.serializers, buildValidator: () => compileValidator as never },
    },
    frameworkErrors: (error, request, reply) => sendProblem(request, reply as FastifyReply, problemOf(error)),
  }).withTypeProvider<TypeBoxTypeProvider>();
}
