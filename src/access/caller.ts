import type { MapLimits } from "./map_limits.ts";
import { ALL_SCOPES, type Scopes } from "./scopes.ts";

/** Who sends a request: the name that events have, and what he may do. */
export interface Caller {
  readonly name: string;
  /** With or without a glob. */
  readonly scopes: Scopes;
  /** On which maps he may use them; left out: on all. */
  readonly limits?: MapLimits;
}

/** A caller's scopes as they were given. */
export function scopeTexts({
  scopes,
  limits,
}: {
  readonly scopes: Scopes;
  readonly limits?: MapLimits | undefined;
}): readonly string[] {
  return limits?.texts ?? [...scopes];
}

/** Root, the service's own user, and who has the token of the data directory. */
export const OWNER: Caller = { name: "owner", scopes: ALL_SCOPES };

/** Everybody who comes by TCP where that needs no token; in logs of earlier releases everybody who had none. */
export const ANONYMOUS: Caller = { name: "anonymous", scopes: ALL_SCOPES };

/** The service's own name in the log. */
export const SERVICE_NAME = "mapledger";

/** Whether a session that one caller has opened is another's to use: what was anonymous passes to the owner. */
export function mayUseSessionOf(opener: string, caller: string): boolean {
  return opener === caller || (opener === ANONYMOUS.name && caller === OWNER.name);
}
