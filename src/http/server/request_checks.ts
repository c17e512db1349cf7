/** Checks every request before its route: origin, caller, scopes, and whether the service is ready. */

import { Socket } from "node:net";
import type { FastifyReply, FastifyRequest, RouteOptions } from "fastify";
import type { Caller } from "../../access/caller.ts";
import type { Settings } from "../../config.ts";
import type { Senders } from "../../net/senders.ts";
import { checkScopes, checkSeesAll, isAllowed, type RefusalParts } from "./access.ts";
import { checkOrigin, type Identity } from "./auth.ts";
import type { Flight } from "./flight.ts";
import type { App } from "./instance.ts";
import { Problem, SAFETY_HEADERS } from "./problems.ts";
import { logRead } from "./read_log.ts";
import type { Pending, UnderWay } from "./requests_under_way.ts";
import { ALSO_READ, type Need, OF_ALL_MAPS, PUBLIC_EVIDENCE, READ_ONLY, ROUTE_SCOPES } from "./route_scopes.ts";
import type { UnknownCallers } from "./unknown_callers.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** The scopes that a caller needs. */
    need?: Need;
    /** The operation shows values too, so it also needs `read`. */
    alsoReads?: boolean;
    /** The answer covers all maps. */
    ofAll?: boolean;
    /** MAPLEDGER_PUBLIC_EVIDENCE is on, and the operation is public. */
    isPublic?: boolean;
    /** The service is read-only, and the operation changes something or asks a kernel. */
    isRefused?: boolean;
  }
}

export interface CheckParts extends RefusalParts {
  readonly identity: Identity;
  readonly ready: () => string | null;
  readonly settings: Pick<Settings, "publicEvidence">;
  readonly unknownCallers: UnknownCallers;
  readonly flight: Pick<Flight, "isOf">;
  readonly underWay: UnderWay;
  readonly senders: Senders;
  /** Set if the service is read-only. */
  readonly present?: unknown;
}

/** No caller has this name. */
const UNKNOWN = "";
const NO_CHANGES = "the service is read-only: it was started with --read-only";

/** Adds the checks to all routes. */
export function addChecks(app: App, parts: CheckParts): void {
  const { identity, ready, settings } = parts;
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
    // Open operations, such as health checks, are also answered while the service is not ready.
    if (need === "open") return;
    if (request.routeOptions.config.isPublic && !isKnown(identity, request)) {
      request.isAnybodys = true;
      checkReady(ready);
      return;
    }
    const caller = knownCaller(parts, request, reply);
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

/** Throws UnknownCaller. All unknown callers are one sender. */
function knownCaller(
  { identity, senders, unknownCallers }: Pick<CheckParts, "identity" | "senders" | "unknownCallers">,
  { raw }: FastifyRequest,
  reply: FastifyReply,
): Caller {
  let name = UNKNOWN;
  try {
    const caller = unknownCallers.watch(raw, () => identity.callerOf(raw));
    name = caller.name;
    return caller;
  } finally {
    const sender = senders.of(name);
    sender.otherBegan();
    // A request of the service's own has no connection.
    if (raw.socket instanceof Socket) reply.raw.once("close", () => sender.otherAnswered(raw.socket));
  }
}

/** Logs the reads that leave no event, if MAPLEDGER_READ_LOG is on. */
export function addReadLog(app: App, { settings }: { readonly settings: Pick<Settings, "readLog"> }): void {
  if (settings.readLog === "off") return;
  app.addHook("preHandler", async (request) => logRead(request, operationOf(request.routeOptions)));
}

function checkReady(ready: CheckParts["ready"]): void {
  const reason = ready();
  if (reason !== null) throw new Problem("unavailable", reason);
}

/** Whether the caller is known and has the scope `evidence`. */
function isKnown(identity: Identity, { raw }: FastifyRequest): boolean {
  try {
    return isAllowed(identity.callerOf(raw).scopes, ["evidence"]);
  } catch {
    return false;
  }
}

/** Breaks a request off if its caller loses the right to it before it is answered. */
function follow(
  { identity, underWay }: Pick<CheckParts, "identity" | "underWay">,
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

/** The scopes that a route needs. Throws if ROUTE_SCOPES has no entry for its operation. */
function needOf(route: RouteOptions): Need {
  const { url } = route;
  if (url === "/" || url.startsWith("/docs")) return "open";
  const operation = operationOf(route);
  const need = Object.hasOwn(ROUTE_SCOPES, operation) ? ROUTE_SCOPES[operation] : undefined;
  if (need === undefined) throw new Error(`registering ${url}: ROUTE_SCOPES has no operation "${operation}"`);
  return need;
}

function operationOf({ schema }: { readonly schema?: unknown }): string {
  return (schema as { operationId?: string } | undefined)?.operationId ?? "";
}
