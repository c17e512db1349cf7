import t from "tap";
import { Deadlines } from "../../src/engine/deadlines.ts";
import { random, SEED } from "../support/seed.ts";

/** How many ids are looked at, which is what a look costs. */
function counted(): { deadlines: Deadlines; of: Map<number, number>; looks: () => number } {
  const of = new Map<number, number>();
  let looks = 0;
  const deadlines = new Deadlines((id) => {
    looks++;
    return of.get(id) ?? Number.POSITIVE_INFINITY;
  });
  return { deadlines, of, looks: () => looks };
}

t.test("what is over is found, whatever deadlines move, come and go", async (t) => {
  const below = random(SEED);
  const { deadlines, of } = counted();
  let nowMs = 0;
  for (let turn = 0; turn < 20_000; turn++) {
    const id = below(200);
    const before = of.get(id);
    const dice = below(10);
    if (dice < 2) {
      of.delete(id);
      deadlines.forget(id);
    } else if (dice === 2 && before !== undefined) of.set(id, Number.POSITIVE_INFINITY);
    else if (dice < 6 && before !== undefined && before !== Number.POSITIVE_INFINITY) of.set(id, before + below(5000));
    else {
      of.set(id, nowMs + below(3000));
      deadlines.watch(id);
    }
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

t.test("while nothing is over, a look costs nothing", async (t) => {
  const { deadlines, of, looks } = counted();
  for (let id = 0; id < 10_000; id++) {
    of.set(id, 60_000 + id);
    deadlines.watch(id);
  }
  const before = looks();
  let found = 0;
  for (let nowMs = 0; nowMs < 59_000; nowMs += 10) found += deadlines.over(nowMs, 100).length;
  t.equal(looks(), before);
  // Each was used meanwhile.
  for (const [id, deadlineMs] of of) of.set(id, deadlineMs + 60_000);
  for (let nowMs = 59_000; nowMs < 119_000; nowMs += 10) found += deadlines.over(nowMs, 100).length;
  t.equal(found, 0);
  t.ok(looks() - before < 100_000, `${looks() - before} looks`);
});

t.test("when many are over at once, each look answers a part of them", async (t) => {
  const { deadlines, of, looks } = counted();
  for (let id = 0; id < 10_000; id++) {
    of.set(id, 1000);
    deadlines.watch(id);
  }
  const before = looks();
  const ended = new Set<number>();
  for (let found = deadlines.over(1000, 100); found.length > 0; found = deadlines.over(1000, 100)) {
    if (found.length !== 100) t.fail(`${found.length} in one look`);
    for (const id of found) {
      ended.add(id);
      of.delete(id);
      deadlines.forget(id);
    }
  }
  t.equal(ended.size, 10_000);
  t.ok(looks() - before <= 10_000, `${looks() - before} looks`);
});

t.test("a clock that was stopped for a day", async (t) => {
  const { deadlines, of } = counted();
  of.set(1, 1000);
  deadlines.watch(1);
  t.same(deadlines.over(86_400_000, 10), [1]);
  deadlines.forget(1);
  t.same(deadlines.over(2 * 86_400_000, 10), []);
});
