/** The type of the Fastify instance, and the facts about a request's caller that `request_checks.ts` sets. */

import type { IncomingMessage, ServerResponse } from "node:http";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from "fastify";
import type { MapLimits } from "../../access/map_limits.ts";
import type { Scopes } from "../../access/scopes.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** The caller's name, as events have it. */
    caller: string;
    /** The peer, as events have it; undefined if the machine does not report it. */
    peer: string | undefined;
    /** The caller's scopes. */
    scopes: Scopes;
    /** The maps that the scopes cover; undefined: all maps. */
    limits: MapLimits | undefined;
    /** The request asks for public evidence, and its caller has no scope for it or is unknown. `caller` is empty. */
    isAnybodys: boolean;
  }
}

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

/** The options of a plugin of routes: the parts of the service that it needs. */
export interface RouteOptions<Parts> {
  readonly parts: Parts;
}
