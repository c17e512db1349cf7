import t from "tap";
import { Drift } from "../../src/engine/drift.ts";
import type { Mirror, MirrorSource } from "../../src/engine/ports.ts";
import { hash } from "../support/mirror.ts";

const INTERVAL_MS = 1000;
/** The most that are compared at intervals at once. */
const AT_ONCE = 64;

/** Comparisons of maps without differences, which take as many pieces as they are told to. */
function compared() {
  const seen = { nowMs: 0, pieces: 1, scans: [] as number[], failures: [] as unknown[], fault: null as Error | null };
  const source = (id: number) => ({ map: { ...hash, id } }) as Partial<MirrorSource> as MirrorSource;
  const mirror: Partial<Mirror> = {
    kernelId: () => 1,
    takenUp: () => {},
    scan: function* ({ map }) {
      seen.scans.push(map.id);
      for (let piece = 1; piece < seen.pieces; piece++) yield [];
      return null;
    },
  };
  const drift = new Drift({
    mirror: mirror as Mirror,
    sources: {
      of: (id) => {
        if (seen.fault !== null) throw seen.fault;
        return source(id);
      },
    },
    run: () => true,
    notes: { refused: () => {}, failed: (_doing, error) => seen.failures.push(error) },
    clock: { nowMs: () => seen.nowMs },
  });
  return { drift, seen };
}

const AT_INTERVALS = { policy: "report", intervalMs: INTERVAL_MS } as const;

/** As the engine does: pieces, and between them whatever awaits their ends. */
async function runAll(drift: Drift): Promise<void> {
  for (let more = true; more; await new Promise(setImmediate)) more = drift.step();
}

t.test("a comparison that fails is answered with its error, and the next one is made", async (t) => {
  const { drift, seen } = compared();
  drift.watch({ id: 1, drift: AT_INTERVALS });
  seen.fault = new Error("the state cannot be read");
  const asked = t.rejects(drift.report(1, 10), { message: "the state cannot be read" });
  await runAll(drift);
  await asked;
  seen.fault = null;
  const interval = async (): Promise<void> => {
    seen.nowMs += INTERVAL_MS;
    await runAll(drift);
  };
  await interval();
  t.same(seen.scans, [1]);
  seen.pieces = 2;
  seen.nowMs += INTERVAL_MS;
  drift.step();
  seen.fault = new Error("the state cannot be read again");
  await runAll(drift);
  t.match(seen.failures, [{ message: "the state cannot be read again" }]);
  seen.fault = null;
  await interval();
  t.same(seen.scans, [1, 1, 1]);
});

t.test("of very many maps that are due at once, some are compared at a time, and each at its interval", async (t) => {
  const { drift, seen } = compared();
  const maps = Array.from({ length: 1000 }, (_, at) => at + 1);
  for (const id of maps) drift.watch({ id, drift: AT_INTERVALS });
  seen.nowMs = INTERVAL_MS;
  seen.pieces = 3;
  for (let turn = 0; turn < AT_ONCE; turn++) drift.step();
  t.ok(seen.scans.length <= AT_ONCE, `${seen.scans.length} have begun`);
  await runAll(drift);
  t.same(
    seen.scans.toSorted((a, b) => a - b),
    maps,
    "each once",
  );
  seen.nowMs = 2 * INTERVAL_MS;
  await runAll(drift);
  t.equal(seen.scans.length, 2 * maps.length, "each again");
});

t.test("a comparison that is under way when the next is due takes its place", async (t) => {
  const { drift, seen } = compared();
  drift.watch({ id: 1, drift: AT_INTERVALS });
  seen.pieces = 10;
  seen.nowMs = INTERVAL_MS;
  drift.step();
  seen.nowMs = 2 * INTERVAL_MS;
  drift.step();
  t.same(seen.scans, [1]);
  await runAll(drift);
  await runAll(drift);
  t.same(seen.scans, [1, 1], "and the one that was due is made when it is over");
  drift.watch({ id: 1 });
  seen.nowMs = 5 * INTERVAL_MS;
  await runAll(drift);
  t.same(seen.scans, [1, 1], "none without an interval");
});
