import fc from "fast-check";
import t from "tap";
import { MemoryCells } from "../../src/engine/memory.ts";
import { PendingCells } from "../../src/engine/pending.ts";
import { type Cell, type CellKey, firstIn } from "../../src/maps/cells.ts";
import { SEED } from "../support/seed.ts";

/** Cells that count how many of them are come past, and whose writes end when the test says so. */
class CountingCells extends MemoryCells {
  visits = 0;
  #end: (() => void) | null = null;

  override *range(from: CellKey, to: CellKey): Iterable<Cell> {
    for (const cell of super.range(from, to)) {
      this.visits++;
      yield cell;
    }
  }

  override async write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): Promise<void> {
    const all = [...changes];
    await new Promise<void>((resolve) => (this.#end = resolve));
    await super.write(all, seq);
  }

  end(): void {
    this.#end?.();
    this.#end = null;
  }
}

const VALUE = Buffer.from("value");
const keyOf = (number: number): CellKey => `e${String(number).padStart(6, "0")}`;
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

t.test(
  "whoever takes the first cell again and again does not come past all that went before it each time",
  async (t) => {
    const COUNT = 3000;
    for (const isStored of [true, false]) {
      const base = new CountingCells();
      const cells = new PendingCells(base);
      for (let at = 0; at < COUNT; at++) cells.put(keyOf(at), VALUE);
      cells.settle();
      if (isStored) {
        cells.write(1, () => {});
        base.end();
        await settled();
        t.equal(base.seq, 1);
      } else base.seq = 1;
      base.visits = 0;
      cells.mark();
      for (let at = 0; at < COUNT; at++) {
        const first = firstIn(cells, "e", "f") as Cell;
        t.equal(first[0], keyOf(at));
        cells.delete(first[0]);
      }
      t.equal(firstIn(cells, "e", "f"), undefined);
      t.ok(base.visits < COUNT * 50, `${base.visits} cells for ${COUNT} walks`);
      cells.put(keyOf(7), VALUE);
      t.equal(firstIn(cells, "e", "f")?.[0], keyOf(7), "what comes again before them is found");
      cells.rollback(0);
      t.equal(firstIn(cells, "e", "f")?.[0], keyOf(0), "and so is what a rollback brings back");
    }
  },
);

t.test(
  "what goes after a first write that has failed does not come back, if that had been written all the same",
  async (t) => {
    class Dying extends MemoryCells {
      isDying = true;

      override async write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): Promise<void> {
        const before = this.seq;
        await super.write(changes, seq);
        if (!this.isDying) return;
        this.seq = before;
        throw new Error("the thread has died");
      }
    }
    const base = new Dying();
    const cells = new PendingCells(base);
    for (const number of [1, 2]) cells.put(keyOf(number), VALUE);
    cells.write(1, () => {});
    await settled();
    cells.delete(keyOf(1));
    base.isDying = false;
    cells.write(2, (error) => t.fail(String(error)));
    await settled();
    t.same([...base.range("e", "f")], [[keyOf(2), VALUE]]);
    t.equal(cells.get(keyOf(1)), undefined);
  },
);

t.test("a walk sees what there is, whatever was changed, taken back, written and walked before", async (t) => {
  const key = fc.nat(120).map(keyOf);
  const step = fc.oneof(
    fc.record({ what: fc.constant("put" as const), key, value: fc.nat(255) }),
    fc.record({ what: fc.constant("delete" as const), key }),
    fc.record({ what: fc.constant("delete from the start" as const), count: fc.integer({ min: 30, max: 80 }) }),
    fc.record({ what: fc.constant("walk" as const), key }),
    fc.constant({ what: "mark" as const }),
    fc.constant({ what: "rollback" as const }),
    fc.constant({ what: "write" as const }),
    fc.constant({ what: "end" as const }),
  );
  const property = fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 80 }), async (steps) => {
    const base = new CountingCells();
    const cells = new PendingCells(base);
    let model = new Map<CellKey, Buffer>();
    for (let at = 0; at < 100; at++) model.set(keyOf(at), VALUE);
    for (const [one, value] of model) cells.put(one, value);
    let marked: { at: number; model: Map<CellKey, Buffer> } | null = null;
    let seq = 0;
    for (const one of steps) {
      switch (one.what) {
        case "put":
          cells.put(one.key, Buffer.of(one.value));
          model.set(one.key, Buffer.of(one.value));
          break;
        case "delete":
          cells.delete(one.key);
          model.delete(one.key);
          break;
        case "delete from the start":
          for (const gone of [...model.keys()].sort().slice(0, one.count)) {
            cells.delete(gone);
            model.delete(gone);
          }
          break;
        case "walk":
          firstIn(cells, "e", "f");
          firstIn(cells, one.key, "f");
          break;
        case "mark":
          marked = { at: cells.mark(), model: new Map(model) };
          break;
        case "rollback":
          if (marked === null) break;
          cells.rollback(marked.at);
          model = new Map(marked.model);
          break;
        case "write":
          if (cells.writing !== null) break;
          cells.settle();
          marked = null;
          cells.write(++seq, () => {});
          break;
        case "end":
          base.end();
          await settled();
          break;
      }
      const sorted = [...model].sort(([a], [b]) => (a < b ? -1 : 1));
      const found = [...cells.range("e", "f")];
      if (
        found.length !== sorted.length ||
        !found.every(([k, v], at) => k === sorted[at]?.[0] && v.equals(sorted[at][1]))
      )
        throw new Error(`after ${one.what}: found ${found.map(([k]) => k)}, there are ${sorted.map(([k]) => k)}`);
    }
    base.end();
    await settled();
  });
  await fc.assert(property, { numRuns: 150, seed: SEED });
  t.pass("for 150 sequences of changes");
});
