/** Maps of the state, with their elements and pins, in the form that the mirror compares and writes. */

import type { Element, MapRecord, MapType } from "../maps/map.ts";
import { mapType } from "../maps/types.ts";
import { elementsOf } from "../syscall/elements.ts";
import { OPERATOR, OpenMap } from "../syscall/open_map.ts";
import type { State } from "../syscall/state.ts";
import type { MirrorSource } from "./ports.ts";

export class MirrorSources {
  readonly #state: State;

  constructor(state: State) {
    this.#state = state;
  }

  /** undefined: the map is gone. */
  map(mapId: number): MapRecord | undefined {
    return this.#state.map(mapId);
  }

  /** null: the map is gone. */
  of(mapId: number): MirrorSource | null {
    const map = this.#state.map(mapId);
    return map === undefined ? null : this.#source(map, this.#pathnames().get(mapId) ?? []);
  }

  *all(): Iterable<MirrorSource> {
    const pathnames = this.#pathnames();
    for (const [, map] of this.#state.maps.from("")) yield this.#source(map, pathnames.get(map.id) ?? []);
  }

  #pathnames(): ReadonlyMap<number, readonly string[]> {
    const pathnames = new Map<number, string[]>();
    for (const { map, pathname } of this.#state.bpffs.pinned()) {
      const known = pathnames.get(map);
      if (known === undefined) pathnames.set(map, [pathname]);
      else known.push(pathname);
    }
    return pathnames;
  }

  #source(map: MapRecord, pathnames: readonly string[]): MirrorSource {
    const open = new OpenMap(this.#state, map, OPERATOR);
    const type = mapType(map.type) as MapType;
    return {
      map,
      btf: this.#state.btfBlob(map),
      pathnames,
      elements: () => type.stored(open),
      element(key) {
        const cell = type.cellOf(map, key);
        return type.element(open, cell, open.cells.get(cell));
      },
      room: () => map.maxEntries - this.#state.entryCount(map.id),
      after: (key, limit) => firstOf(elementsOf(open, key), limit),
    };
  }
}

function firstOf(elements: Iterable<Element>, limit: number): Element[] {
  const first: Element[] = [];
  for (const element of elements) if (first.push(element) === limit) break;
  return first;
}
