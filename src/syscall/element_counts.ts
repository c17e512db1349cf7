import { type Cells, u32Key } from "../maps/cells.ts";
import { factsOf } from "../maps/facts.ts";
import type { MapRecord, MapType } from "../maps/map.ts";
import type { Refusal } from "../maps/refusal.ts";
import type { Charges } from "./charges.ts";
import { numberCodec, Table } from "./table.ts";

/** The number of elements of each map: table n. An added element is charged to the map's creator. */
export class ElementCounts {
  readonly #counts: Table<number>;
  readonly #charges: Pick<Charges, "isAsked" | "addElements" | "checkElement">;

  constructor(cells: Cells, charges: Pick<Charges, "isAsked" | "addElements" | "checkElement">) {
    this.#counts = new Table(cells, "n", numberCodec);
    this.#charges = charges;
  }

  of(id: number): number {
    return this.#counts.get(u32Key(id)) ?? 0;
  }

  set(map: MapRecord, type: MapType, count: number): void {
    const key = u32Key(map.id);
    if (this.#charges.isAsked && !type.preallocated(map))
      this.#charges.addElements(map, type, count - (this.#counts.get(key) ?? 0));
    this.#counts.put(key, count);
  }

  /** ENOMEM if another element would exceed a quota. `taken`: elements that are not counted yet. */
  growth(map: MapRecord, type: MapType, taken: number): Refusal | null {
    return this.#charges.checkElement(map, type, taken);
  }

  /** The number of elements that pages of the map list. */
  listed({ id, type, maxEntries }: Pick<MapRecord, "id" | "type" | "maxEntries">): number {
    return factsOf(type)?.dense === true ? maxEntries : this.of(id);
  }

  /** For a new map. */
  begin(id: number): void {
    this.#counts.put(u32Key(id), 0);
  }

  end(id: number): void {
    this.#counts.delete(u32Key(id));
  }

  forget(): void {
    this.#counts.forget();
  }
}
