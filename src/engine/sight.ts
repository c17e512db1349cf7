/**
 * The maps that a caller with globs in its scopes may see, for questions about the present. `http/views/sight.ts` does
 * the same for answers that do not come from the engine.
 */

import type { MapLimits } from "../access/map_limits.ts";
import type { MapScope, Scope } from "../access/scopes.ts";
import type { Coverage } from "../syscall/coverage.ts";
import { missingFor } from "../syscall/permission.ts";
import { type MapReference, targetOf } from "./map_reference.ts";

/** Whose question it is, if there are maps that he may not see: the id of his limits. */
export interface Asking {
  readonly limits?: number;
}

/** He may not see the map: this scope does not cover it. */
export interface Hidden {
  readonly missing: Scope;
}

/** Callers' limits, and which maps they cover. */
export interface SightLimits {
  readonly coverage: Coverage;
  /** undefined: nobody has them any more. */
  of(id: number): MapLimits | undefined;
}

/** The maps that somebody may see. */
export interface Sight {
  readonly coverage: Coverage;
  readonly limits: MapLimits;
}

/** `known` null: no question says whose it is. Answers null if the asker may see everything. Limits that were taken back show nothing. */
export function sightOf(known: SightLimits | null, asking: Asking): Sight | null {
  if (asking.limits === undefined || known === null) return null;
  return { coverage: known.coverage, limits: known.of(asking.limits) ?? NOTHING };
}

const NOTHING: MapLimits = { id: 0, read: [], write: [], pin: [], admin: false, texts: [] };

/** null: the map that is meant may be seen, if there is one. Any of the scopes must cover it. */
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
