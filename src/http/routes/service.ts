import { Type } from "typebox";
import { problems, told } from "../answers.ts";
import type { App, RouteOptions } from "../parts.ts";
import { Problem } from "../problems.ts";
import { nullable } from "../schemas.ts";

const TAGS = ["service"];

/** What the service says about itself. */
export async function serviceRoutes(app: App, options: RouteOptions): Promise<void> {
  live(app);
  ready(app, options);
  metrics(app, options);
  document(app);
}

const Status = (status: string) => Type.Object({ status: Type.Enum([status], { type: "string" }) });

const Ready = Type.Object({
  ...Status("ready").properties,
  mirror: Type.Object({
    state: Type.Enum(["on", "off"], { type: "string" }),
    detail: nullable("string", { description: "Why the mirror is off; null: it is on." }),
  }),
});

function live(app: App): void {
  app.get("/livez", {
    exposeHeadRoute: true,
    schema: {
      operationId: "getLiveness",
      summary: "Whether the service runs",
      tags: TAGS,
      security: [],
      response: { 200: told("It runs.", Status("live"), { status: "live" }), ...probeProblems() },
    },
    handler: async () => ({ status: "live" }),
  });
}

function ready(app: App, { parts }: RouteOptions): void {
  app.get("/readyz", {
    exposeHeadRoute: true,
    schema: {
      operationId: "getReadiness",
      summary: "Whether the service takes commands",
      description:
        "While it recovers or closes, 503 says how far it is. `mirror` says whether kernel maps follow the ledger; the service takes commands " +
        "either way.",
      tags: TAGS,
      security: [],
      response: {
        200: told("The service takes commands.", Ready, { status: "ready", mirror: { state: "on", detail: null } }),
        ...probeProblems(),
      },
    },
    handler: async () => {
      const reason = parts.ready();
      if (reason !== null) throw new Problem("unavailable", reason);
      const detail = parts.mirrorOff();
      return { status: "ready", mirror: { state: detail === null ? "on" : "off", detail } };
    },
  });
}

/** A probe sends nothing that could be wrong. */
function probeProblems(): ReturnType<typeof problems> {
  const { 400: _input, 401: _token, ...rest } = problems({});
  return rest;
}

function metrics(app: App, { parts: { engine, metrics, streams, tree } }: RouteOptions): void {
  app.get("/metrics", {
    schema: {
      operationId: "getMetrics",
      summary: "Metrics, as Prometheus takes them",
      tags: TAGS,
      response: {
        200: {
          description: "Prometheus' text format.",
          content: { "text/plain": { schema: Type.String(), example: "mapledger_sessions 1\n" } },
        },
        ...problems({}),
      },
    },
    handler: async (_request, reply) => {
      const stats = await engine.query("stats", {});
      const text = await metrics.text(stats, engine.waiting, streams.count, await tree.status());
      return reply.type(metrics.contentType).send(text);
    },
  });
}

function document(app: App): void {
  let text = "";
  app.addHook("onReady", async () => {
    text = JSON.stringify(app.swagger());
  });
  app.get("/openapi.json", {
    schema: {
      operationId: "getDocument",
      summary: "This document",
      tags: TAGS,
      security: [],
      response: {
        200: told("OpenAPI 3.1.", Type.Object({}, { additionalProperties: true }), { openapi: "3.1.0" }),
        ...probeProblems(),
      },
    },
    handler: async (_request, reply) => reply.type("application/json; charset=utf-8").send(text),
  });
}
