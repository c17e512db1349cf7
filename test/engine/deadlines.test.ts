import t from "tap";
import { Deadlines } from "../../src/engine/deadlines.ts";
import { Slots } from "../../src/engine/slots.ts";
import { random, SEED } from "../support/seed.ts";

t.test("what is over is found, whatever deadlines move, come and go", async (t) => {
  const below = random(SEED);
  const deadlines = new Deadlines();
  const of = new Map<number, number>();
  let nowMs = 0;
  for (let turn = 0; turn < 20_000; turn++) {
    const id = below(200);
    const before = of.get(id);
    const dice = below(10);
    if (dice < 2) {
      of.delete(id);
      deadlines.clear(id);
    } else {
      const deadlineMs = dice < 6 && before !== undefined ? before + below(5000) : nowMs + below(3000);
      of.set(id, deadlineMs);
      deadlines.set(id, deadlineMs);
    }
    if (deadlines.get(id) !== (of.get(id) ?? Number.POSITIVE_INFINITY)) t.fail(`the deadline of ${id}`);
    nowMs += below(30);
    const over = [...of].filter(([, deadlineMs]) => deadlineMs <= nowMs).map(([id]) => id);
    const most = below(4) === 0 ? below(10) : 1000;
    const found = deadlines.over(nowMs, most);
    if (new Set(found).size !== found.length) t.fail(`an id twice in ${found}`);
    if (found.some((id) => !over.includes(id))) t.fail(`${found} of ${over}`);
    if (found.length !== Math.min(most, over.length)) t.fail(`${found.length} of ${over.length}, at most ${most}`);
  }
  t.ok(nowMs > 100_000, "much time has passed");
});

t.test("when many are over at once, each look answers a part of them", async (t) => {
  const deadlines = new Deadlines();
  for (let id = 0; id < 10_000; id++) deadlines.set(id, 1000);
  t.same(deadlines.over(999, 100), []);
  const ended = new Set<number>();
  for (let found = deadlines.over(1000, 100); found.length > 0; found = deadlines.over(1000, 100)) {
    if (found.length !== 100) t.fail(`${found.length} in one look`);
    for (const id of found) {
      ended.add(id);
      deadlines.clear(id);
    }
  }
  t.equal(ended.size, 10_000);
});

t.test("deadlines in thousands of years take no place of others", async (t) => {
  const deadlines = new Deadlines();
  for (let slot = 0; slot < 100; slot++) deadlines.set(slot, slot % 2 === 0 ? 1e15 + slot : slot);
  t.equal(deadlines.over(1000, 1000).length, 50);
  for (let slot = 0; slot < 100; slot += 2) deadlines.set(slot, 500);
  t.equal(deadlines.over(1000, 1000).length, 100);
});

t.test("a slot that was given no deadline has none", async (t) => {
  const deadlines = new Deadlines();
  for (const slot of [1, 5, 100]) deadlines.set(slot, 10);
  for (const slot of [0, 2, 3, 99, 101, 1000]) t.equal(deadlines.get(slot), Number.POSITIVE_INFINITY);
  t.same(deadlines.over(20, 10).sort(), [1, 100, 5]);
});

t.test("a clock that was stopped for a day", async (t) => {
  const deadlines = new Deadlines();
  deadlines.set(1, 1000);
  t.same(deadlines.over(86_400_000, 10), [1]);
  deadlines.clear(1);
  t.same(deadlines.over(2 * 86_400_000, 10), []);
});

t.test("slots are given again, and know their ids", async (t) => {
  const slots = new Slots();
  const below = random(SEED);
  const ids = new Map<number, number>();
  for (let turn = 0; turn < 5000; turn++) {
    const id = below(300) * 1_000_003;
    const slot = ids.get(id);
    if (slot === undefined) ids.set(id, slots.take(id));
    else {
      ids.delete(id);
      slots.give(id);
    }
  }
  t.equal(slots.size, ids.size);
  t.equal(new Set(ids.values()).size, ids.size);
  t.ok(Math.max(...ids.values()) < 300);
  t.strictSame(
    [...ids.values()].map((slot) => slots.idOf(slot)),
    [...ids.keys()],
  );
  for (const [id, slot] of ids) if (slots.of(id) !== slot) t.fail(`the slot of ${id}`);
});
