/** Answers thrown errors, and requests without a route, with problems. */

import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { InvalidInput } from "../../codec/invalid.ts";
import { EventsArchived } from "../../engine/archives.ts";
import { CallerGone, EngineBusy, EngineClosed, EngineLost } from "../../engine/client.ts";
import { HistoryBehind, NotYet } from "../../past/past.ts";
import { NoThread } from "../../supervisor/asked_thread.ts";
import { PartFailed } from "../../supervisor/derived_parts.ts";
import type { App } from "./instance.ts";
import { archivedProblem, Problem, partProblem, SAFETY_HEADERS, StatusProblem } from "./problems.ts";
import { refusedType } from "./wanted_bodies.ts";

export function addProblems(app: App): void {
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
        ? new Problem("no-such-route", `no route has the path ${pathname}`)
        : new Problem("method-not-allowed", `${request.method} is not allowed here`, {}, { allow: allowed.join(", ") });
    return sendProblem(request, reply, problem);
  });
}

/** Whether a path matches a route: a parameter stands for one name between slashes, a final * for the rest. */
function matches(route: string, pathname: string): boolean {
  const wanted = route.split("/");
  const given = pathname.split("/");
  if (wanted.at(-1) === "*" && given.length >= wanted.length) {
    wanted.pop();
    given.length = wanted.length;
  }
  return wanted.length === given.length && wanted.every((name, at) => name.startsWith(":") || name === given[at]);
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply {
  if (problem.cause !== undefined)
    request.log.error({ err: problem.cause }, `answering ${request.method} ${request.url}`);
  return reply
    .code(problem.status)
    .headers({ ...SAFETY_HEADERS, ...problem.headers })
    .type("application/problem+json")
    .send(problem.text());
}

/**
 * The problem that a thrown error is answered with. Unknown errors are bugs: the log gets the cause, the caller does
 * not.
 */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof InvalidInput) return new Problem("invalid-input", error.message, { where: error.where });
  if (error instanceof PartFailed) return partProblem(error);
  if (error instanceof EngineLost) return new Problem("outcome-unknown", error.message);
  if (error instanceof EngineBusy) return new Problem("busy", error.message);
  if (error instanceof EventsArchived) return archivedProblem(error.oldestSeq);
  if (error instanceof HistoryBehind) return new Problem("history-behind", error.message, { reached_seq: error.seq });
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
      return new Problem(
        "bug",
        "the request failed inside the service; the service's log has the error",
        {},
        {},
        error,
      );
  }
}
