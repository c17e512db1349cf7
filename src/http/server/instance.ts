/** The Fastify instance that hooks and routes are added to, and what each request has found out about its sender. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from "fastify";
import type { MapLimits } from "../../access/map_limits.ts";
import type { Scopes } from "../../access/scopes.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who sends it, by the name that events have. */
    caller: string;
    /** From where, as events tell it; undefined: the machine does not say. */
    peer: string | undefined;
    /** What he may do. */
    scopes: Scopes;
    /** On which maps; undefined: on all. */
    limits: MapLimits | undefined;
    /** It comes from nobody who is known, and is answered all the same. */
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

/** What a plugin of routes is registered with: the few parts of the service that it needs. */
export interface RouteOptions<Parts> {
  readonly parts: Parts;
}
