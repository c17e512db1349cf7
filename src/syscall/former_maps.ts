import { type Cells, u32Key } from "../maps/cells.ts";
import { jsonCodec, Table } from "./table.ts";

/** A freed map whose kernel map lived on, in this boot. */
interface FormerMap {
  readonly map: number;
  readonly boot: string;
}

/** Freed maps whose kernel map lived on: table w, by the kernel's map id. */
export class FormerMaps {
  readonly #maps: Table<FormerMap>;

  constructor(cells: Cells) {
    this.#maps = new Table(cells, "w", jsonCodec());
  }

  /** The freed map whose kernel map this was, in this boot; undefined: none is known. */
  of(kernelId: number, boot: string): number | undefined {
    const former = this.#maps.get(u32Key(kernelId));
    return former?.boot === boot ? former.map : undefined;
  }

  set(kernelId: number, former: FormerMap): void {
    this.#maps.put(u32Key(kernelId), former);
  }

  forget(): void {
    this.#maps.forget();
  }
}
