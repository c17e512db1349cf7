import * as fc from "fast-check";
import { test } from "tap";
import { CellTable } from "../../src/engine/cell_table.ts";
import { SEED } from "../support/seed.ts";

/** Short keys that come again, and long ones; bytes that are no ASCII. */
const keys = fc.oneof(
  { weight: 9, arbitrary: fc.nat(399).map((number) => `e\0\xff${number}`) },
  { weight: 1, arbitrary: fc.nat(3).map((number) => "\xfe".repeat(300) + number) },
  { weight: 1, arbitrary: fc.constant("") },
);
const values = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  fc.uint8Array({ minLength: 100, maxLength: 300 }),
  fc.constant(null),
);
const steps = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ key: keys, value: values }) },
    { weight: 2, arbitrary: fc.record({ key: keys, gone: fc.constant(true) }) },
    { weight: 2, arbitrary: fc.record({ key: keys }) },
  ),
  { maxLength: 3000, size: "max" },
);

test("a table of cells answers as a Map does, and what has gone out stays as it was", async (t) => {
  let most = 0;
  fc.assert(
    fc.property(steps, (steps) => {
      const table = new CellTable();
      const map = new Map<string, string | null>();
      const views: [view: Buffer, then: string][] = [];
      for (const step of steps) {
        const { key } = step;
        if ("value" in step) {
          const value = step.value === null ? null : Buffer.from(step.value);
          table.set(key, value);
          map.set(key, value?.toString("latin1") ?? null);
          value?.fill(0);
        } else if ("gone" in step) {
          table.delete(key);
          map.delete(key);
        }
        const view = table.get(key);
        if (view) views.push([view, map.get(key) as string]);
        if (text(view) !== map.get(key) || table.size !== map.size) return false;
        most = Math.max(most, table.size);
      }
      const wanted = [...map].sort(([a], [b]) => (a < b ? -1 : 1));
      const bytes = wanted.reduce((sum, [key, value]) => sum + key.length + (value?.length ?? 0), 0);
      const found = [...table].map(([key, change]) => [key, text(change)]);
      return (
        JSON.stringify(found) === JSON.stringify(wanted) &&
        table.bytes === bytes &&
        views.every(([view, then]) => text(view) === then)
      );
    }),
    { seed: SEED, numRuns: 60 },
  );
  t.ok(most > 200, `${most} cells at once`);
});

test("a value of 1 MiB has a place among small ones, again and again", async (t) => {
  const table = new CellTable();
  for (let turn = 0; turn < 40; turn++) {
    table.set("large", Buffer.alloc(1024 * 1024, turn));
    table.set(`small ${turn}`, Buffer.of(turn));
  }
  t.ok(table.get("large")?.equals(Buffer.alloc(1024 * 1024, 39)));
  t.same(
    [...table].filter(([key]) => key !== "large").map(([, change]) => change?.[0]),
    Array.from({ length: 40 }, (_, turn) => turn).sort((left, right) => (`${left}` < `${right}` ? -1 : 1)),
  );
  t.equal(table.bytes, 1024 * 1024 + 40 + [...table].reduce((sum, [key]) => sum + key.length, 0));
});

function text(change: Buffer | null | undefined): string | null | undefined {
  return change?.toString("latin1") ?? (change as null | undefined);
}

test("the empty key is found again, also as the first one and behind a removal", async (t) => {
  const table = new CellTable();
  for (const before of [() => {}, () => table.delete("a")]) {
    before();
    table.set("", null);
    table.set("a", null);
    table.set("", Buffer.from("one"));
    t.equal(table.size, 2);
    t.equal(text(table.get("")), "one");
    table.delete("");
    t.equal(table.size, 1);
    t.equal(table.get(""), undefined);
  }
});
