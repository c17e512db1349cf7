/** Freed maps. A map loses its id at once; its cells are reclaimed between batches, a bounded number at a time. */

import { afterPrefix, type CellKey, type Cells, readU32Key, u32Key } from "../maps/cells.ts";
import { elementsPrefix, usesPrefix } from "../maps/common.ts";
import type { Element, MapRecord } from "../maps/map.ts";
import { mapCodec } from "./map_table.ts";
import type { OpenMap } from "./open_map.ts";

/**
 * Freed maps whose cells are not reclaimed yet: cells g, by map id. A cell is empty if the elements have dropped their
 * references, and has the map's record if they have not.
 */
export class Garbage {
  readonly #cells: Cells;
  readonly #open: (map: MapRecord) => OpenMap;
  /** Whether there may be cells to reclaim. */
  #mayBe = true;

  constructor(cells: Cells, open: (map: MapRecord) => OpenMap) {
    this.#cells = cells;
    this.#open = open;
  }

  add(id: number): void {
    this.#mayBe = true;
    this.#cells.put(cellOf(id), NOTHING);
  }

  /** The elements drop their references later. */
  defer(map: MapRecord): void {
    this.#cells.put(cellOf(map.id), mapCodec.encode(map));
  }

  /** The first map whose elements still have to drop their references. */
  deferred(): number | undefined {
    for (const [cell, bytes] of this.#all()) if (bytes.length > 0) return readU32Key(cell, 1);
    return undefined;
  }

  isDeferred(id: number): boolean {
    return (this.#cells.get(cellOf(id))?.length ?? 0) > 0;
  }

  /** Lets at most `limit` elements of a freed map drop their references, and deletes them. Returns their number. */
  freeElements(id: number, limit: number): number {
    if (!this.isDeferred(id)) return 0;
    const opened = this.#open(mapCodec.decode(this.#cells.get(cellOf(id)) as Buffer));
    const { free, stored, cellOf: elementCell } = opened.type;
    const elements: Element[] = [];
    for (const element of stored(opened)) if (elements.push(element) === limit) break;
    for (const element of elements) {
      free?.(opened, element);
      this.#cells.delete(elementCell(opened.map, element.key));
    }
    if (elements.length < limit) this.add(id);
    return elements.length;
  }

  /**
   * Reclaims at most `limit` cells of freed maps; a map without cells counts as one. Returns whether any may be left. If
   * none is, the cells are not read again until another map is freed.
   */
  reclaim(limit: number): boolean {
    if (!this.#mayBe) return false;
    const garbage: CellKey[] = [];
    for (const [key, bytes] of this.#all()) {
      if (bytes.length > 0) continue;
      garbage.push(key);
      if (garbage.length === limit) break;
    }
    let left = limit;
    for (const key of garbage) {
      const id = readU32Key(key, 1);
      for (const prefix of [elementsPrefix({ id }), usesPrefix({ id })]) {
        const cells: CellKey[] = [];
        for (const [cell] of this.#cells.range(prefix, afterPrefix(prefix))) {
          if (left-- <= 0) break;
          cells.push(cell);
        }
        for (const cell of cells) this.#cells.delete(cell);
        if (left < 0) return true;
      }
      this.#cells.delete(key);
      left--;
    }
    this.#mayBe = garbage.length === limit;
    return this.#mayBe;
  }

  /** Call this after the cells have gone back to an earlier state. */
  forget(): void {
    this.#mayBe = true;
  }

  #all(): ReturnType<Cells["range"]> {
    return this.#cells.range(LETTER, afterPrefix(LETTER));
  }
}

const NOTHING = Buffer.alloc(0);
const LETTER = "g";

function cellOf(id: number): CellKey {
  return `${LETTER}${u32Key(id)}`;
}
