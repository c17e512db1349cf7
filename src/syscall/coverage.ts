/**
 * The maps that globs cover. For each list of globs there is an index of the covered maps, which walks build only as
 * far as they go, and for each pinned map the number of its pins that the globs match. Changes keep both up to date. A
 * walk that has far to go looks at 2,048 maps a turn before the command runs (`engine/pieces.ts`, `engine/queries.ts`).
 */

import { coversName, coversPath, isByPins, type Reach } from "../access/map_limits.ts";
import { u32Key } from "../maps/cells.ts";
import type { MapRecord } from "../maps/map.ts";
import { firstAbove } from "./ascending.ts";
import type { State } from "./state.ts";

/** The most maps that are matched in one turn of the engine, which takes some milliseconds. */
export const LOOKED_AT_MAX = 2048;

/** The maps that a list of globs covers, for the map ids that were matched so far. */
interface Index {
  readonly globs: readonly string[];
  /** Covered ids, ascending. */
  readonly ids: number[];
  /** All maps with ids up to this one were matched, and are updated when they change. */
  through: number;
}

/**
 * Finds the maps that globs cover. Each list of globs has an index of map ids, built only as far as callers ask. An
 * indexed map is matched again when it is created, freed, pinned or unpinned.
 */
export class Coverage {
  readonly state: State;
  readonly #indexes = new Map<string, Index>();
  /**
   * By globs: for maps with pins that were matched, the number of pins that the globs match. A map may have thousands.
   */
  readonly #matching = new Map<string, { readonly globs: readonly string[]; readonly counts: Map<number, number> }>();

  constructor(state: State) {
    this.state = state;
    state.watch.onChange = (map, pathname) => this.#changed(map, pathname);
  }

  covers(reach: Reach, map: number): boolean {
    if (reach === "all") return true;
    const record = this.state.map(map);
    return record !== undefined && this.#coversMap(reach, record);
  }

  /** The smallest covered id above `after`; undefined: there is none. Matches all maps up to it. */
  next(globs: readonly string[], after: number): number | undefined {
    while (!this.walk(globs, after, 1)) {}
    const { ids } = this.#index(globs);
    return ids[firstAbove(ids, after)];
  }

  /** The covered ids above `after`, ascending, as far as the index goes. */
  *known(globs: readonly string[], after: number): Iterable<number> {
    const { ids } = this.#index(globs);
    for (let at = firstAbove(ids, after); at < ids.length; at++) yield ids[at] as number;
  }

  /** Whether so few maps are left to match that a command may do it itself. */
  isNear(globs: readonly string[]): boolean {
    return this.state.lastId("map") - this.#index(globs).through <= LOOKED_AT_MAX;
  }

  /**
   * Matches more maps, LOOKED_AT_MAX at most. Returns whether the first `count` covered ids above `after` are known (or
   * all of them, if there are fewer).
   */
  walk(globs: readonly string[], after: number, count: number): boolean {
    const { state } = this;
    const index = this.#index(globs);
    const { ids } = index;
    const missing = (): number => count - (ids.length - firstAbove(ids, after));
    const last = state.lastId("map");
    if (index.through >= last || missing() <= 0) return true;
    let left = LOOKED_AT_MAX;
    for (const [, map] of state.maps.from(u32Key(index.through + 1))) {
      if (left-- === 0) return false;
      index.through = map.id;
      if (!this.#coversMap(globs, map)) continue;
      ids.push(map.id);
      if (missing() <= 0) return true;
    }
    index.through = last;
    return true;
  }

  /** Drops the indexes of other globs than these, and the numbers of matching pins. */
  keep(reaches: readonly Reach[]): void {
    const kept = new Set(reaches.map((reach) => (reach === "all" ? "" : keyOf(reach))));
    for (const key of this.#indexes.keys()) if (!kept.has(key)) this.#indexes.delete(key);
    this.#matching.clear();
  }

  #index(globs: readonly string[]): Index {
    const key = keyOf(globs);
    const known = this.#indexes.get(key);
    if (known !== undefined) return known;
    const index: Index = { globs, ids: [], through: 0 };
    this.#indexes.set(key, index);
    return index;
  }

  #coversMap(reach: Reach, { id, name }: MapRecord): boolean {
    if (reach === "all" || coversName(reach, name)) return true;
    return isByPins(reach) && this.#matchingPins(reach, id) > 0;
  }

  /** The number of a map's pins that the globs match. Counted at the first call, then updated with each pin. */
  #matchingPins(globs: readonly string[], map: number): number {
    const pins = this.state.bpffs.pinsOf(map);
    if (pins.size === 0) return 0;
    const key = keyOf(globs);
    const { counts } = this.#matching.get(key) ?? { counts: new Map<number, number>() };
    const known = counts.get(map);
    if (known !== undefined) return known;
    let count = 0;
    for (const pin of pins) if (coversPath(globs, pin)) count++;
    counts.set(map, count);
    this.#matching.set(key, { globs, counts });
    return count;
  }

  /** Called with null if any map or pin may have changed. */
  #changed(map: number | null, pathname: string): void {
    if (map === null) {
      this.#indexes.clear();
      this.#matching.clear();
      return;
    }
    for (const { globs, counts } of this.#matching.values()) this.#count(globs, counts, map, pathname);
    for (const { globs, ids, through } of this.#indexes.values()) if (map <= through) this.#note(globs, ids, map);
  }

  #count(globs: readonly string[], counts: Map<number, number>, map: number, pathname: string): void {
    const known = counts.get(map);
    if (known === undefined) return;
    const pins = this.state.bpffs.pinsOf(map);
    if (pathname === "" || pins.size === 0) counts.delete(map);
    else if (coversPath(globs, pathname)) counts.set(map, known + (pins.has(pathname) ? 1 : -1));
  }

  #note(globs: readonly string[], ids: number[], map: number): void {
    const at = firstAbove(ids, map - 1);
    const isIn = ids[at] === map;
    if (this.covers(globs, map) === isIn) return;
    if (isIn) ids.splice(at, 1);
    else ids.splice(at, 0, map);
  }
}

/** The key of a list of globs: joined with commas, which no glob contains. */
function keyOf(globs: readonly string[]): string {
  return globs.join();
}
