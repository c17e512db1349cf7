import * as fc from "fast-check";
import { test } from "tap";
import { CellTable } from "../../src/engine/cell_table.ts";
import { KeyOrder } from "../../src/engine/key_order.ts";
import type { CellKey } from "../../src/maps/cells.ts";
import { SEED } from "../support/seed.ts";

/** A table, its order, and the keys that it has. */
class Ordered {
  readonly table = new CellTable();
  readonly order: KeyOrder;
  readonly model = new Map<CellKey, string | null>();

  constructor(isWalked: boolean) {
    this.order = new KeyOrder(this.table, isWalked);
  }

  set(key: CellKey, value: string | null): void {
    const { size } = this.table;
    this.table.set(key, value === null ? null : Buffer.from(value));
    if (this.table.size > size) this.order.added(key);
    this.model.set(key, value);
  }

  remove(key: CellKey): void {
    const entry = this.table.entryOf(key);
    if (entry < 0) return;
    this.order.removing(entry);
    this.table.delete(key);
    this.model.delete(key);
  }

  /** From the model. */
  wanted(from: CellKey): string {
    return [...this.model]
      .filter(([key]) => key >= from)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => `${key}=${value}`)
      .join();
  }

  found(from: CellKey): string {
    return Array.from(this.order.changes(from), ([key, change]) => `${key}=${change}`).join();
  }
}

const keys = fc
  .array(fc.constantFrom("", "\0", "a", "b", "\xff", "long".repeat(30)), { maxLength: 3 })
  .map((parts) => parts.join(""));
/** Many keys at once, in an order that is neither ascending nor descending. */
const many = fc.record({
  begin: fc.nat(20_000),
  count: fc.constantFrom(1, 100, 4095, 5000, 9000),
  step: fc.constantFrom(1, 7919),
});
const steps = fc.array(
  fc.oneof(
    fc.record({ set: keys, value: fc.option(fc.string({ maxLength: 5 })) }),
    fc.record({ remove: keys }),
    fc.record({ fill: many }),
    fc.record({ removeFilled: fc.nat(20_000) }),
    fc.record({ read: keys }),
  ),
  { maxLength: 25 },
);
const filled = (number: number): CellKey => `f${String(number % 20_000).padStart(5, "0")}`;

test("ranges are in the order of the keys, whatever was added and removed before", (t) => {
  fc.assert(
    fc.property(steps, fc.boolean(), (steps, isWalked) => {
      const one = new Ordered(isWalked);
      for (const step of steps) {
        if ("set" in step) one.set(step.set, step.value);
        else if ("remove" in step) one.remove(step.remove);
        else if ("removeFilled" in step) one.remove(filled(step.removeFilled));
        else if ("fill" in step)
          for (let at = 0; at < step.fill.count; at++)
            one.set(filled(step.fill.begin + at * step.fill.step), String(at));
        else if (one.found(step.read) !== one.wanted(step.read)) return false;
      }
      return one.found("") === one.wanted("") && one.found("f1") === one.wanted("f1");
    }),
    { seed: SEED, numRuns: 150 },
  );
  t.end();
});

test("a walk goes on in order while entries are added and removed behind and before it", (t) => {
  const one = new Ordered(true);
  for (let number = 0; number < 10_000; number += 2) one.set(filled(number * 7919), "first");
  const walked: CellKey[] = [];
  let added = 0;
  for (const [key] of one.order.changes("")) {
    walked.push(key);
    // Entries move when many are new, and when one is removed.
    if (walked.length % 3 === 0) one.set(`e${added++}`, "behind");
    if (walked.length % 100 === 0) one.remove(walked[walked.length - 50] as CellKey);
  }
  t.same(walked, [...walked].sort(), "ascending");
  t.same(new Set(walked).size, walked.length, "each once");
  t.equal(walked.length, 5000);
  t.equal(one.found(""), one.wanted(""));
  t.end();
});

test("entries that have their places already are told apart", (t) => {
  const one = new Ordered(true);
  for (let number = 0; number < 5000; number++) one.set(filled(number), "");
  const settled = Array.from({ length: 5000 }, (_, entry) => one.order.isSettled(entry));
  t.equal(settled.indexOf(false), 4096);
  t.notOk(one.order.isSettled(-1), "no entry");
  t.end();
});
