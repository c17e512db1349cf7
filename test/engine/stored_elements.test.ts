import fc from "fast-check";
import t from "tap";
import { CellTable } from "../../src/engine/cell_table.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { PendingCells } from "../../src/engine/pending.ts";
import { StoredElements } from "../../src/engine/stored_elements.ts";
import { type CellKey, u32Key } from "../../src/maps/cells.ts";
import { SEED } from "../support/seed.ts";

const elementOf = (map: number, number: number): CellKey => `e${u32Key(map)}${u32Key(number)}`;

/** A store that counts what it is asked for. */
class AskedCells extends MemoryCells {
  asked = 0;

  override get(key: CellKey): Buffer | undefined {
    this.asked++;
    return super.get(key);
  }
}

t.test("an element that was added may be stored, and few others may", (t) => {
  const COUNT = 700_000;
  const stored = new StoredElements(true);
  const value = Buffer.alloc(1);
  let table = new CellTable();
  for (let at = 0; at < COUNT; at++) {
    table.set(elementOf(1, at), value);
    if (table.size < 50_000) continue;
    stored.add(table.memory);
    table = new CellTable();
  }
  stored.add(table.memory);
  const mayHave = (map: number, at: number): boolean => {
    const key = elementOf(map, at);
    return stored.mayHave(key, table.hashOf(key));
  };
  let lost = 0;
  let wrong = 0;
  for (let at = 0; at < COUNT; at++) {
    if (!mayHave(1, at)) lost++;
    if (mayHave(2, at)) wrong++;
  }
  t.equal(lost, 0);
  t.ok(wrong < COUNT / 20, `${wrong} of ${COUNT}`);
  t.ok(stored.mayHave("m", 0), "cells of other tables may always be stored");
  t.end();
});

t.test("of maps from before the start all elements may be stored", (t) => {
  const stored = new StoredElements(false);
  t.ok(stored.mayHave(elementOf(9, 1), 1));
  stored.beginsAfter(8);
  t.ok(stored.mayHave(elementOf(8, 1), 1));
  t.notOk(stored.mayHave(elementOf(9, 1), 1));
  t.end();
});

t.test("a filter without room for more lets every element be stored", (t) => {
  const stored = new StoredElements(true);
  stored.segmentsMax = 1;
  const table = new CellTable();
  for (let at = 0; at < 2 ** 18 + 2000; at++) table.set(elementOf(1, at), Buffer.alloc(1));
  stored.add(table.memory);
  t.ok(stored.mayHave(elementOf(2, 1), 12_345));
  t.end();
});

t.test("a new element costs no read of the store", async (t) => {
  const base = new AskedCells();
  const cells = new PendingCells(base);
  const put = (map: number, at: number): void => {
    if (cells.get(elementOf(map, at)) === undefined) cells.put(elementOf(map, at), Buffer.from([at]));
  };
  for (let write = 1; write <= 4; write++) {
    for (let at = 0; at < 1000; at++) put(1, write * 1000 + at);
    await cells.write(write, () => {});
  }
  t.ok(base.asked < 100, `${base.asked} reads`);
  const later = new PendingCells(base);
  base.asked = 0;
  t.same(later.get(elementOf(1, 1000)), Buffer.from([1000 & 255]));
  later.recovered(1);
  t.equal(later.get(elementOf(1, 999)), undefined);
  t.equal(base.asked, 2);
  t.equal(later.get(elementOf(2, 1)), undefined);
  t.equal(base.asked, 2);
});

t.test("whatever is written, forgotten and failed, pending cells are what a Map would be", async (t) => {
  const step = fc.oneof(
    fc.record({ put: fc.nat(40), map: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ delete: fc.nat(40), map: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ write: fc.constantFrom("done", "failed", "stored, and failed") }),
  );
  let failing: string = "done";
  class FailingCells extends MemoryCells {
    override async write(changes: Iterable<readonly [CellKey, Buffer | null]>, seq: number): Promise<void> {
      if (failing !== "failed") await super.write([...changes], seq);
      if (failing !== "done") throw new Error("the disk fails");
    }
  }
  const run = fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.nat(3), async (steps, known) => {
    failing = "done";
    const base = new FailingCells();
    const old = elementOf(1, 7);
    if (known > 0) await base.write(new Map([[old, Buffer.from("old")]]) as never, 1);
    const cells = new PendingCells(base);
    cells.recovered(known > 0 ? Math.max(1, known) : 0);
    const model = new Map<CellKey, string>(known > 0 ? [[old, "old"]] : []);
    let seq = 1;
    for (const one of steps) {
      if ("write" in one) {
        failing = one.write;
        await cells.write(++seq, () => {});
      } else {
        const key = elementOf(one.map, "put" in one ? one.put : one.delete);
        if ("put" in one) {
          cells.put(key, Buffer.from(String(++seq)));
          model.set(key, String(seq));
        } else {
          cells.delete(key);
          model.delete(key);
        }
      }
      for (let map = 1; map <= 3; map++)
        for (let at = 0; at <= 40; at++) {
          const key = elementOf(map, at);
          if (cells.get(key)?.toString() !== model.get(key))
            throw new Error(`cell ${map} ${at} after ${JSON.stringify(one)}`);
        }
    }
  });
  await fc.assert(run, { numRuns: 100, seed: SEED });
  t.pass();
});
