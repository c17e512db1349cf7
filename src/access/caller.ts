import type { MapLimits } from "./map_limits.ts";
import { ALL_SCOPES, type Scopes } from "./scopes.ts";

/** The sender of a request: the name that its events have, and the scopes that it is allowed. */
export interface Caller {
  readonly name: string;
  /** All scopes of the caller, whether or not they are limited by globs. */
  readonly scopes: Scopes;
  /** The maps on which the caller may use its scopes; left out: all maps. */
  readonly limits?: MapLimits;
}

/** A caller's scopes as the tokens file spells them. */
export function scopeTexts({
  scopes,
  limits,
}: {
  readonly scopes: Scopes;
  readonly limits?: MapLimits | undefined;
}): readonly string[] {
  return limits?.texts ?? [...scopes];
}

/** Root, the service's own user, and callers with the token of the data directory. */
export const OWNER: Caller = { name: "owner", scopes: ALL_SCOPES };

/** Callers over TCP if that requires no token; in logs of earlier releases every caller without a token. */
export const ANONYMOUS: Caller = { name: "anonymous", scopes: ALL_SCOPES };

/** The service's own name in the log. */
export const SERVICE_NAME = "mapledger";

/**
 * Whether a caller may use a session that `opener` has opened: its own, and as the owner also sessions opened
 * anonymously.
 */
export function mayUseSessionOf(opener: string, caller: string): boolean {
  return opener === caller || (opener === ANONYMOUS.name && caller === OWNER.name);
}
