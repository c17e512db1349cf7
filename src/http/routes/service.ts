import { readFileSync } from "node:fs";
import { PARTS, type PartFault } from "../../supervisor/derived_parts.ts";
import type { TreeReader, WitnessStatus } from "../../tree/ports.ts";
import { problems, told } from "../schemas/answers.ts";
import { CLOSED, nullable } from "../schemas/fields.ts";
import { Type } from "../schemas/type.ts";
import { accessFigures, type FigureSources } from "../server/caller_figures.ts";
import type { App, RouteOptions } from "../server/instance.ts";
import type { Metrics, Reached } from "../server/metrics.ts";
import type { EngineDoor } from "../server/ports.ts";
import { Problem } from "../server/problems.ts";
import type { LogStreams } from "../streams/log_streams.ts";

const TAGS = ["service"];

interface ServiceParts extends FigureSources {
  readonly engine: Pick<EngineDoor, "query" | "waiting">;
  readonly metrics: Metrics;
  readonly streams: Pick<LogStreams, "count" | "countOf">;
  readonly tree: Pick<TreeReader, "status">;
  readonly witnesses: () => readonly WitnessStatus[];
  /** Why the service is not ready; null: it is. */
  readonly ready: () => string | null;
  /** Why kernel maps do not follow the ledger at present; null: they do. */
  readonly mirrorOff: () => string | null;
  /** The parts made from the log that do not serve at present. */
  readonly degraded: () => readonly PartFault[];
  readonly reached: () => Reached;
}

/** Probes, metrics, and the API's document. */
export async function serviceRoutes(app: App, options: RouteOptions<ServiceParts>): Promise<void> {
  live(app);
  ready(app, options);
  metrics(app, options);
  document(app);
}

const status = (word: string) => Type.Enum([word], { type: "string" });

const Live = Type.Object({ status: status("live") }, { $id: "Liveness", ...CLOSED });

const DegradedPart = Type.Object(
  {
    part: Type.Enum([...PARTS], { type: "string" }),
    state: Type.Enum(["failed", "refused"], {
      type: "string",
      description:
        "failed: the service tries the part again by itself; refused: the part stays off until an operator acts.",
    }),
    detail: Type.String({ description: "The failure, in words." }),
  },
  { $id: "DegradedPart", ...CLOSED },
);

const Ready = Type.Object(
  {
    status: status("ready"),
    mirror: Type.Object(
      {
        state: Type.Enum(["on", "off"], { type: "string" }),
        detail: nullable("string", { description: "Why the mirror is off; null: it is on." }),
      },
      { $id: "MirrorReadiness", ...CLOSED },
    ),
    degraded: Type.Array(DegradedPart, {
      description:
        "Parts made from the log that do not serve at present. Commands go on, and so do reads that do not need them.",
    }),
  },
  { $id: "Readiness", ...CLOSED },
);

function live(app: App): void {
  app.get("/livez", {
    schema: {
      operationId: "getLiveness",
      summary: "Check whether the service runs",
      tags: TAGS,
      security: [],
      response: { 200: told("The service runs and answers requests.", Live, { status: "live" }), ...probeProblems() },
    },
    handler: async () => ({ status: "live" }),
  });
}

function ready(app: App, { parts }: RouteOptions<ServiceParts>): void {
  app.get("/readyz", {
    schema: {
      operationId: "getReadiness",
      summary: "Check whether the service takes commands",
      description:
        "While the service recovers or closes, a 503 problem says how far it is. `mirror` says whether kernel maps follow the ledger, " +
        "and `degraded` lists the parts made from the log that have failed; the service takes commands in either case.",
      tags: TAGS,
      security: [],
      response: {
        200: told("The service takes commands.", Ready, {
          status: "ready",
          mirror: { state: "on", detail: null },
          degraded: [],
        }),
        ...probeProblems(),
      },
    },
    handler: async () => {
      const reason = parts.ready();
      if (reason !== null) throw new Problem("unavailable", reason);
      const detail = parts.mirrorOff();
      const degraded = parts.degraded().map(({ part, state, detail }) => ({ part, state, detail }));
      return { status: "ready", mirror: { state: detail === null ? "on" : "off", detail }, degraded };
    },
  });
}

/** The problems of a route that takes neither input nor a token: 400 and 401 cannot happen. */
function probeProblems(): ReturnType<typeof problems> {
  const { 400: _input, 401: _token, ...rest } = problems({});
  return rest;
}

function metrics(app: App, { parts }: RouteOptions<ServiceParts>): void {
  const { engine, metrics, streams, tree, witnesses } = parts;
  app.get("/metrics", {
    schema: {
      operationId: "getMetrics",
      summary: "Get metrics in Prometheus' text format",
      tags: TAGS,
      response: {
        200: {
          description: "All metrics, in Prometheus' text format.",
          content: { "text/plain": { schema: Type.String({ $id: "MetricsText" }), example: "mapledger_sessions 1\n" } },
        },
        ...problems({}),
      },
    },
    handler: async (_request, reply) => {
      const stats = await engine.query("stats", {});
      const access = accessFigures(parts, stats);
      // If the tree does not answer, the metrics that do not need it are sent.
      const treeStatus = await tree.status().catch(() => null);
      const text = await metrics.text(
        stats,
        { waiting: engine.waiting, streams: streams.count, degraded: parts.degraded(), reached: parts.reached() },
        treeStatus,
        access,
        witnesses(),
      );
      return reply.type(metrics.contentType).send(text);
    },
  });
}

const Document = Type.Object({}, { $id: "OpenApiDocument", additionalProperties: true });

/** The document that `npm run openapi` wrote. To generate it from the routes would take a tenth of a start. */
const DOCUMENT = new URL("../../../openapi/openapi.json", import.meta.url);

function document(app: App): void {
  const text = readFileSync(DOCUMENT);
  app.get("/openapi.json", {
    schema: {
      operationId: "getDocument",
      summary: "Get this document",
      tags: TAGS,
      security: [],
      response: {
        200: told("The OpenAPI 3.1 document of the service.", Document, { openapi: "3.1.0" }),
        ...probeProblems(),
      },
    },
    handler: async (_request, reply) => reply.type("application/json; charset=utf-8").send(text),
  });
}
