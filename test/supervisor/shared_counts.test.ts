import t from "tap";
import { SharedCounts } from "../../src/supervisor/shared_counts.ts";

t.test("each thread sees what the others have, and nothing of one that has ended", (t) => {
  const first = new SharedCounts(2, { threads: 3 });
  const second = new SharedCounts(2, first.memory);
  first.set(0, 0, 5);
  second.set(0, 1, 7);
  second.set(1, 1, 9);
  t.equal(first.others(0, 0), 7);
  t.equal(second.others(0, 1), 5);
  t.equal(first.others(0, 2), 12);
  t.equal(first.others(1, 0), 9);
  t.equal(second.others(1, 1), 0);
  first.clear(1);
  t.equal(first.others(0, 2), 5);
  t.equal(first.others(1, 2), 0);
  t.end();
});
