import { MemoryCells } from "../../src/engine/memory.ts";
import type { Cell, CellKey } from "../../src/maps/cells.ts";

/** Cells in memory that insist on what all cells ask for: that they do not change while a range of them is walked. */
export class StrictCells extends MemoryCells {
  #walks = 0;

  override put(key: CellKey, value: Buffer): void {
    this.#checkResting();
    super.put(key, value);
  }

  override delete(key: CellKey): void {
    this.#checkResting();
    super.delete(key);
  }

  override *range(from: CellKey, to: CellKey): Iterable<Cell> {
    this.#walks++;
    try {
      yield* super.range(from, to);
    } finally {
      this.#walks--;
    }
  }

  #checkResting(): void {
    if (this.#walks > 0) throw new Error("changing cells: a range of them is being walked");
  }
}
