/**
 * The maps that a caller with globs in its scopes may see, for queries about the present. `http/views/sight.ts` does
 * the same for answers that do not come from the engine.
 */

import type { MapLimits } from "../access/map_limits.ts";
import type { MapScope, Scope } from "../access/scopes.ts";
import type { Coverage } from "../syscall/coverage.ts";
import { missingFor } from "../syscall/permission.ts";
import { type MapReference, targetOf } from "./map_reference.ts";

/** The id of the caller's limits; absent: the caller may see all maps. */
export interface Asking {
  readonly limits?: number;
}

/** The caller may not see the map: this scope does not cover it. */
export interface Hidden {
  readonly missing: Scope;
}

/** The limits of callers, and the maps that they cover. */
export interface SightLimits {
  readonly coverage: Coverage;
  /** undefined: these limits were revoked. */
  of(id: number): MapLimits | undefined;
}

/** The maps that a caller may see. */
export interface Sight {
  readonly coverage: Coverage;
  readonly limits: MapLimits;
}

/**
 * null: the caller may see everything, or `known` is null, because queries name no caller. Revoked limits show nothing.
 */
export function sightOf(known: SightLimits | null, asking: Asking): Sight | null {
  if (asking.limits === undefined || known === null) return null;
  return { coverage: known.coverage, limits: known.of(asking.limits) ?? NOTHING };
}

const NOTHING: MapLimits = { id: 0, read: [], write: [], pin: [], admin: false, texts: [] };

/** null: the caller may see the map, if there is one: any of the scopes covers it. */
export function hiddenBy(
  known: SightLimits | null,
  reference: MapReference,
  scopes: readonly MapScope[],
  asking: Asking,
): Hidden | null {
  const sight = sightOf(known, asking);
  if (sight === null) return null;
  const missing = missingFor(sight.coverage, targetOf(reference), sight.limits, scopes);
  return missing === null ? null : { missing };
}
