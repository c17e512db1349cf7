/** Network interfaces: the machine's, as the last INTERFACES command records them, and elements that go with one. */

import { afterKey, afterPrefix, type CellKey, type Cells, readU32Key, u32Key } from "../maps/cells.ts";
import { elementsPrefix } from "../maps/common.ts";
import { sendsToInterfaces } from "../maps/facts.ts";
import type { Element, Host, MapRecord } from "../maps/map.ts";
import type { Deferral } from "./deferral.ts";
import type { ElementCounts } from "./element_counts.ts";
import type { OpenMap } from "./open_map.ts";
import { jsonCodec, Table } from "./table.ts";

/** The parts of the state that interfaces use. */
interface Port {
  readonly cells: Cells;
  readonly host: Pick<Host, "ifindexes">;
  readonly counts: Pick<ElementCounts, "of">;
  readonly maps: Pick<Table<MapRecord>, "from">;
  readonly deferral: Pick<Deferral, "goesLater" | "goAtOnce" | "putOff">;
  open(map: number): OpenMap;
}

/**
 * The machine's network interfaces, and the elements that go with them. Two tables:
 *
 *     h  (nothing)                    -> the interfaces' indexes
 *     x  map id                       -> a key: the elements after it are still to be searched for removed interfaces;
 *                                        empty: all elements
 */
export class Interfaces {
  readonly #port: Port;
  readonly #indexes: Table<readonly number[]>;

  constructor(port: Port) {
    this.#port = port;
    this.#indexes = new Table(port.cells, "h", jsonCodec());
  }

  get indexes(): readonly number[] {
    return this.#indexes.get("") ?? this.#port.host.ifindexes;
  }

  /** Sets the machine's interfaces, and deletes the elements of removed ones. */
  set(ifindexes: readonly number[]): void {
    const { cells, counts, deferral, maps } = this.#port;
    this.#indexes.put("", ifindexes);
    for (const [, { id, type }] of [...maps.from("")]) {
      if (!sendsToInterfaces(type)) continue;
      const entries = counts.of(id);
      if (deferral.goesLater("interfaces", id, entries)) {
        cells.put(cellOf(id), NOTHING);
        deferral.putOff("interfaces", id);
        continue;
      }
      deferral.goAtOnce(entries);
      const map = this.#port.open(id);
      this.#remove(map, map.type.stored(map));
    }
  }

  /** The first map that is still to be searched for elements of removed interfaces. */
  deferred(): number | undefined {
    for (const [cell] of this.#port.cells.range(LETTER, afterPrefix(LETTER))) return readU32Key(cell, 1);
    return undefined;
  }

  /**
   * Checks the next `limit` elements of a map, and deletes those of removed interfaces. Returns the number of elements
   * checked.
   */
  freeElements(id: number, limit: number): number {
    const { cells } = this.#port;
    const cell = cellOf(id);
    const behind = cells.get(cell);
    if (behind === undefined) return 0;
    const map = this.#port.open(id);
    const prefix = elementsPrefix(map.map);
    const from = behind.length === 0 ? prefix : afterKey(map.type.cellOf(map.map, behind));
    const elements: Element[] = [];
    for (const [at, bytes] of cells.range(from, afterPrefix(prefix))) {
      const element = map.type.element(map, at, bytes);
      if (element !== null && elements.push(element) === limit) break;
    }
    if (elements.length < limit) cells.delete(cell);
    else cells.put(cell, (elements.at(-1) as Element).key);
    this.#remove(map, elements);
    return elements.length;
  }

  /** Deletes those of the given elements whose interface was removed. */
  #remove(map: OpenMap, elements: Iterable<Element>): void {
    const { indexes } = this;
    const gone = [...elements].filter(({ value }) => !indexes.includes(value.readUInt32LE(0)));
    for (const { key } of gone) map.type.remove(map, key);
  }

  mapFreed({ id, type }: MapRecord): void {
    if (sendsToInterfaces(type)) this.#port.cells.delete(cellOf(id));
  }

  forget(): void {
    this.#indexes.forget();
  }
}

const NOTHING = Buffer.alloc(0);
const LETTER = "x";

function cellOf(id: number): CellKey {
  return `${LETTER}${u32Key(id)}`;
}
