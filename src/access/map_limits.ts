/** Scopes with globs: which maps and pins a caller may use. */

import { isOfPins, matchesGlob, startsLike } from "./globs.ts";
import { type Grant, grantText, MAP_SCOPES, type MapScope } from "./scopes.ts";

/** The maps on which a scope may be used: all, or those that one of these globs matches; []: none. */
export type Reach = "all" | readonly string[];

/**
 * The maps on which a caller may use each scope, for callers that have scopes with globs. Limits are sent to other
 * threads once; commands name them by `id`.
 */
export interface MapLimits extends Readonly<Record<MapScope, Reach>> {
  /** Unique to the limits' texts for as long as the service runs; 0: not assigned yet. */
  readonly id: number;
  readonly admin: boolean;
  /** The scopes as the tokens file spells them. */
  readonly texts: readonly string[];
}

/** The names by which globs match a map. */
export interface Belonging {
  readonly name: string;
  /** The map's pins; for a freed map, those that it had when it was freed. */
  readonly pins: Iterable<string>;
}

/** The limits of these grants; null if no grant has a glob: then the scopes suffice. */
export function mapLimitsOf(grants: readonly Grant[]): MapLimits | null {
  if (grants.every(({ glob }) => glob === null)) return null;
  const [read, write, pin] = MAP_SCOPES.map((scope) => reachOf(grants, scope)) as [Reach, Reach, Reach];
  const admin = grants.some(({ scope }) => scope === "admin");
  return { id: 0, read, write, pin, admin, texts: grants.map(grantText) };
}

function reachOf(grants: readonly Grant[], wanted: MapScope): Reach {
  const globs = grants.filter(({ scope }) => scope === wanted).map(({ glob }) => glob);
  return globs.includes(null) ? "all" : globs.filter((glob) => glob !== null);
}

export function covers(reach: Reach, { name, pins }: Belonging): boolean {
  if (reach === "all" || coversName(reach, name)) return true;
  if (!isByPins(reach)) return false;
  for (const pin of pins) if (coversPath(reach, pin)) return true;
  return false;
}

/** Whether a map's pins must be looked up to know if it is covered. */
export function isByPins(reach: Reach): boolean {
  return reach !== "all" && reach.some(isOfPins);
}

/** Whether a map is covered by its name, whatever its pins are. */
export function coversName(reach: Reach, name: string): boolean {
  return reach === "all" || reach.some((glob) => !isOfPins(glob) && matchesGlob(glob, name));
}

/** Whether a map is covered by a pin at this path. */
export function coversPath(reach: Reach, path: string): boolean {
  return reach === "all" || reach.some((glob) => isOfPins(glob) && matchesGlob(glob, path));
}

/** Whether a caller may use a directory: it lies on the path to pins that the caller's globs match. */
export function coversDirectory(limits: MapLimits, path: string): boolean {
  return MAP_SCOPES.some((scope) => {
    const reach = limits[scope];
    return reach === "all" || reach.some((glob) => isOfPins(glob) && startsLike(glob, path));
  });
}
