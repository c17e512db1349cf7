import { isOfPins, matchesGlob, startsLike } from "./globs.ts";
import { type Grant, grantText, MAP_SCOPES, type MapScope } from "./scopes.ts";

/** The maps that a scope is of: all, or those that one of these globs matches; [] is none. */
export type Reach = "all" | readonly string[];

/**
 * What a caller may do of whose scopes some have globs. It crosses threads as it is; commands carry its `id` alone.
 */
export interface MapLimits extends Readonly<Record<MapScope, Reach>> {
  /** Another text has another one, for as long as the service runs. */
  readonly id: number;
  readonly admin: boolean;
  /** The scopes as they were given. */
  readonly texts: readonly string[];
}

/** By what a map is known to globs. */
export interface Belonging {
  readonly name: string;
  /** Its present pins; of a freed map, those at its end. */
  readonly pins: Iterable<string>;
}

/** null: none of these has a glob, and scopes say it all. */
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

/** Whether what a map's pins are may matter. */
export function isByPins(reach: Reach): boolean {
  return reach !== "all" && reach.some(isOfPins);
}

/** Whether a map is covered for its name, whatever its pins are. */
export function coversName(reach: Reach, name: string): boolean {
  return reach === "all" || reach.some((glob) => !isOfPins(glob) && matchesGlob(glob, name));
}

/** Whether a map is covered for being pinned there. */
export function coversPath(reach: Reach, path: string): boolean {
  return reach === "all" || reach.some((glob) => isOfPins(glob) && matchesGlob(glob, path));
}

/** Whether a directory is of use to a caller: it leads to where his globs are. */
export function coversDirectory(limits: MapLimits, path: string): boolean {
  return MAP_SCOPES.some((scope) => {
    const reach = limits[scope];
    return reach === "all" || reach.some((glob) => isOfPins(glob) && startsLike(glob, path));
  });
}
