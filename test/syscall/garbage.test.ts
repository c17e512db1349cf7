import t from "tap";
import { MemoryCells } from "../../src/engine/memory.ts";
import { type Cell, type CellKey, u32Key } from "../../src/maps/cells.ts";
import { elementsPrefix } from "../../src/maps/common.ts";
import { Garbage } from "../../src/syscall/garbage.ts";

class CountedCells extends MemoryCells {
  reads = 0;

  override range(from: CellKey, to: CellKey): Iterable<Cell> {
    this.reads++;
    return super.range(from, to);
  }
}

function freed(maps: number, elements: number): { cells: CountedCells; garbage: Garbage } {
  const cells = new CountedCells();
  const garbage = new Garbage(cells, () => {
    throw new Error("no element has references");
  });
  for (let id = 1; id <= maps; id++) {
    for (let key = 0; key < elements; key++) cells.put(elementsPrefix({ id }) + u32Key(key), Buffer.alloc(8));
    garbage.add(id);
  }
  return { cells, garbage };
}

function left(cells: CountedCells): number {
  return [...cells.range("", "\uffff")].length;
}

t.test("a piece has so many cells, or so many maps without any, and all pieces together have all", async (t) => {
  for (const [maps, elements] of [
    [1, 0],
    [1, 10],
    [3, 9],
    [3, 10],
    [25, 0],
    [10, 1],
    [7, 25],
  ] as const) {
    const { cells, garbage } = freed(maps, elements);
    let before = left(cells);
    for (let more = true; more; ) {
      more = garbage.reclaim(10);
      const now = left(cells);
      // Ten cells of elements, and as many of maps.
      t.ok(before - now <= 20, `${maps} maps of ${elements} elements: ${before - now} cells in a piece`);
      before = now;
    }
    t.equal(before, 0, `${maps} maps of ${elements} elements`);
  }
});

t.test("nothing is read while there is nothing to reclaim", async (t) => {
  const { cells, garbage } = freed(2, 3);
  while (garbage.reclaim(10));
  const { reads } = cells;
  for (let turn = 0; turn < 10; turn++) t.equal(garbage.reclaim(10), false);
  t.equal(cells.reads, reads);
  garbage.add(3);
  garbage.reclaim(10);
  t.equal(left(cells), 0, "a map that is freed later");
  garbage.add(4);
  const cell = [...cells.range("", "\uffff")][0] as Cell;
  garbage.reclaim(10);
  cells.put(...cell);
  garbage.forget();
  garbage.reclaim(10);
  t.equal(left(cells), 0, "a map whose cell has come back");
});
