import { createServer, type RequestListener, type Server } from "node:http";
import fastify, { type FastifyInstance } from "fastify";
import { inLine } from "../net/pipelines.ts";
import { boundPeers } from "./peers.ts";
import type { Latest } from "./store.ts";
import { originHash, type Witness } from "./witness.ts";

/** Enough for a proof and 30 signatures of ML-DSA-44. */
const BODY_BYTES_MAX = 128 * 1024;
/**
 * The time in which a request must arrive, its line and headers in half of it; also how long a connection may be
 * silent.
 */
const REQUEST_MS = 10_000;
/** How often the server checks these times. */
const CHECK_MS = 1000;
const CONNECTIONS_MAX = 256;
const HEADER_BYTES_MAX = 8 * 1024;
const JSON_TYPE = "application/json; charset=utf-8";
const TEXT_TYPE = "text/plain; charset=utf-8";

/**
 * Serves a witness over HTTP: `POST /add-checkpoint`, `GET /HASH/checkpoint`, and `GET /`, which lists the witness'
 * keys and the checkpoint that it cosigned last for each log. There is no TLS and no login, because only a checkpoint's
 * signature counts. `tell` is called with lines for operators.
 */
export function witnessServer(witness: Witness, tell: (line: string) => void, requestMs = REQUEST_MS): FastifyInstance {
  const app = fastify({
    bodyLimit: BODY_BYTES_MAX,
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    serverFactory: (route) => serverOf(route as RequestListener, requestMs),
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  app.addHook("onRequest", async (_request, reply) => {
    reply.header("x-content-type-options", "nosniff");
  });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    const status = error.statusCode ?? 500;
    if (status >= 500) tell(`a request failed: ${error.message}`);
    return reply
      .code(status)
      .type(TEXT_TYPE)
      .send(status >= 500 ? "the witness failed\n" : `${error.message}\n`);
  });
  app.setNotFoundHandler((_request, reply) => reply.code(404).type(TEXT_TYPE).send("no such resource\n"));

  app.post("/add-checkpoint", async (request, reply) => {
    const { status, type, body, told } = witness.add((request.body as Buffer | undefined) ?? Buffer.alloc(0));
    if (told !== null) tell(told);
    return reply.code(status).type(type).header("cache-control", "no-store").send(body);
  });
  app.get("/:hash/checkpoint", async (request, reply) => {
    const latest = witness.latest((request.params as { hash: string }).hash);
    if (latest === null) return reply.callNotFound();
    return reply.type(TEXT_TYPE).header("cache-control", "no-store").send(latest.note);
  });
  app.get("/", async (_request, reply) =>
    reply
      .type(JSON_TYPE)
      .header("cache-control", "no-store")
      .send(JSON.stringify(listOf(witness))),
  );
  return app;
}

/**
 * Limits headers, times and connections, so that a client that sends endless requests, or an endless one, does not
 * block others.
 */
function serverOf(route: RequestListener, requestMs: number): Server {
  const options = {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: requestMs / 2,
    requestTimeout: requestMs,
    connectionsCheckingInterval: Math.min(CHECK_MS, requestMs),
    keepAliveTimeout: requestMs,
  };
  const server = createServer(
    options,
    inLine(() => false, route),
  ).setTimeout(requestMs);
  server.maxConnections = CONNECTIONS_MAX;
  return boundPeers(server, CONNECTIONS_MAX / 4);
}

function listOf(witness: Witness): object {
  const logs = witness.all().map(({ origin, latest }) => ({ origin, hash: originHash(origin), ...shown(latest) }));
  return { vkeys: witness.vkeys, logs };
}

function shown(latest: Latest | null): object {
  if (latest === null) return { size: null, root: null, time: null, checkpoint: null };
  const { size, root, timeS, note } = latest;
  return { size, root: root.toString("base64"), time: new Date(timeS * 1000).toISOString(), checkpoint: note };
}
