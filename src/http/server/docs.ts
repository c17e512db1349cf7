/**
 * The page /docs, which shows the API's document. Most services are never asked for it, so it is an app of its own, made
 * at the first request: Swagger UI and what it needs are a hundred modules.
 */

import type { FastifySwaggerUiOptions } from "@fastify/swagger-ui";
import fastify, { type FastifyInstance, LogController } from "fastify";
import type { App } from "./instance.ts";
import { swaggerUi } from "./late_modules.ts";
import { addProblems, problemOf, sendProblem } from "./problem_answers.ts";
import { Problem, SAFETY_HEADERS } from "./problems.ts";

const PAGE = "/docs";
/** Swagger UI's own copies of the document; this service has none but DOCUMENT. */
const COPIES: ReadonlySet<string> = new Set([`${PAGE}/json`, `${PAGE}/yaml`]);
const DOCUMENT = "../openapi.json";
/** The page may load resources from this service only. */
const CONTENT_SECURITY =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'self'; frame-ancestors 'none'; form-action 'none'";

const OPTIONS: FastifySwaggerUiOptions = {
  routePrefix: PAGE,
  staticCSP: CONTENT_SECURITY,
  uiConfig: { validatorUrl: null, deepLinking: true },
  theme: { title: "mapledger" },
  uiHooks: {
    onRequest: async ({ routeOptions: { url = "" } }, reply) =>
      COPIES.has(url) ? reply.redirect(DOCUMENT) : undefined,
  },
};

/** Adds the page's routes. `app` checks the requests as all others, and the page's own app answers them. */
export function addDocs(app: App): void {
  let made: Promise<FastifyInstance> | null = null;
  app.get("/", { schema: { hide: true } }, async (_request, reply) => reply.redirect(PAGE));
  for (const url of [PAGE, `${PAGE}/*`])
    app.get(url, { schema: { hide: true } }, async ({ raw }, reply) => {
      made ??= docsApp(app.log);
      const page = await made.catch((error: Error) => {
        made = null;
        throw new Problem("unavailable", `loading the page: ${error.message}`);
      });
      reply.hijack();
      page.routing(raw, reply.raw);
    });
  app.addHook("onClose", async () => {
    await (await made?.catch(() => null))?.close();
  });
}

async function docsApp(loggerInstance: App["log"]): Promise<FastifyInstance> {
  const { fastifySwaggerUi } = swaggerUi();
  const app = fastify({
    loggerInstance,
    logController: new LogController({ disableRequestLogging: true }),
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => sendProblem(request, reply, problemOf(error)),
  });
  addProblems(app);
  app.addHook("onRequest", async (_request, reply) => {
    reply.headers(SAFETY_HEADERS);
  });
  // Called, not registered: as a plugin it requires the collector of `document.ts`, which serves its copies only.
  await app.register(async (scope) => fastifySwaggerUi(scope, OPTIONS, () => {}));
  await app.ready();
  return app;
}
