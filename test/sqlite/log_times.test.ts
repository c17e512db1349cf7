import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import Sqlite from "better-sqlite3";
import t, { type Test } from "tap";
import { CMD } from "../../src/abi/service.ts";
import type { EventRange } from "../../src/engine/events.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { EventIndex } from "../../src/index/event_index.ts";
import type { EventRow } from "../../src/log/event.ts";
import { type EventFilter, matches } from "../../src/log/event_filter.ts";
import { SqliteArchiveSource } from "../../src/sqlite/archive_source.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { SqlitePastLog } from "../../src/sqlite/past_log.ts";
import { memoryEngine } from "../support/memory_engine.ts";

const S = 1_000_000;
const NOON = Date.parse("2026-11-29T12:00:00Z") * 1000;
const HOUR = 3600 * S;
const YEAR = 365 * 24 * HOUR;

/** A log whose engine's clock shows these times, one command each; null: the engine is started anew, over the same log. */
function written(t: Test, times: readonly (number | null)[]): { readonly file: string; readonly rows: EventRow[] } {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-times-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "events.sqlite");
  const log = new SqliteEventLog(file);
  const store = new MemoryCells();
  let nowUs = 0;
  const start = () => memoryEngine({ log, store, clock: { nowUs: () => nowUs, nowMs: () => performance.now() } });
  let engine = start();
  for (const [at, time] of times.entries()) {
    if (time === null) {
      engine = start();
      continue;
    }
    nowUs = time;
    const name = at % 2 === 0 ? "even" : "odd";
    engine.run([{ cmd: CMD.SESSION_OPEN, session: 0, caller: name, attr: { name, ttlMs: 1000 } }]);
  }
  log.close();
  const db = new Sqlite(file, { readonly: true });
  const rows = db.prepare("SELECT * FROM events ORDER BY seq").all() as EventRow[];
  db.close();
  return { file, rows };
}

const steps = (rows: readonly EventRow[]) =>
  rows.filter(({ cmd }) => cmd === CMD.CLOCK_STEP).map(({ seq, time_us, attr }) => [seq, time_us, attr]);

t.test("a clock that is put back by more than 10 s is an event, and later ones have its time", (t) => {
  const { rows } = written(t, [NOON, NOON + HOUR, NOON + 1, NOON + 2]);
  t.strictSame(
    rows.map(({ time_us }) => time_us),
    [NOON, NOON + HOUR, NOON + 1, NOON + 1, NOON + 2],
  );
  t.strictSame(steps(rows), [
    [3, NOON + 1, '{"was":"2026-11-29T13:00:00.000000Z","is":"2026-11-29T12:00:00.000001Z"}'],
  ]);
  t.match(rows[2], { session: 0, caller: "mapledger", map: 0, ret: 0, errno: 0 });
  t.end();
});

t.test("by 10 s or less: time stands still until the clock has come so far", (t) => {
  const { rows } = written(t, [NOON, NOON - 5 * S, NOON - 10 * S, null, NOON - 9 * S, NOON + 1]);
  t.strictSame(
    rows.map(({ time_us }) => time_us),
    [NOON, NOON, NOON, NOON, NOON + 1],
  );
  t.strictSame(steps(written(t, [NOON, NOON - 10 * S - 1]).rows).length, 1);
  t.end();
});

t.test("a start whose clock was ahead is told of by the next one", (t) => {
  const { rows } = written(t, [NOON + YEAR, NOON + YEAR + S, null, NOON, NOON + S]);
  t.strictSame(
    rows.map(({ time_us }) => time_us),
    [NOON + YEAR, NOON + YEAR + S, NOON, NOON, NOON + S],
  );
  t.end();
});

/** Clocks that step: once, twice, over a restart, to before all that was, and none. */
const CLOCKS: readonly (readonly (number | null)[])[] = [
  [NOON, NOON + S, NOON + 2 * S],
  [NOON + YEAR, NOON + YEAR + S, null, NOON, NOON + S, NOON + S, NOON + 2 * S],
  [
    NOON,
    NOON + HOUR,
    NOON + HOUR + S,
    NOON + S,
    NOON + 2 * S,
    NOON + HOUR,
    NOON + 2 * HOUR,
    NOON + HOUR,
    NOON + 3 * HOUR,
  ],
  [NOON + HOUR, null, NOON, null, NOON - HOUR, NOON - HOUR + S, null, NOON + YEAR, NOON],
];

t.test("at, since and until are what the times say, whatever the clock has done", async (t) => {
  for (const clock of CLOCKS) {
    const { file, rows } = written(t, clock);
    const index = new EventIndex(file, new MemoryCells());
    const past = new SqlitePastLog(file);
    const archive = new SqliteArchiveSource(file);
    const moments = [...new Set(rows.flatMap(({ time_us }) => [time_us - 1, time_us, time_us + 1]))];
    for (const moment of moments) {
      const last = rows.findLast(({ time_us }) => time_us <= moment)?.seq ?? 0;
      t.equal(past.seqAt(moment), last, `at ${moment}`);
      t.equal(archive.seqBefore(moment + 1), last, `before ${moment + 1}`);
    }
    const pages = (filter: EventFilter, range: Omit<EventRange, "limit">): number[] => {
      const found: number[] = [];
      for (let next = range; ; ) {
        const page = index.query(filter, { ...next, limit: 2 });
        const seqs = page.rows.map(({ seq }) => seq);
        if (next.beforeSeq === undefined) found.push(...seqs);
        else found.unshift(...seqs);
        if (!page.more) return found;
        next = next.beforeSeq === undefined ? { afterSeq: page.reached } : { ...next, beforeSeq: page.reached };
      }
    };
    const wrong: object[] = [];
    const bounds = [undefined, ...moments];
    const all = { even: { caller: "even" }, odd: { cmd: CMD.SESSION_OPEN, caller: "odd" }, any: {} };
    for (const sinceUs of bounds)
      for (const untilUs of bounds)
        for (const [name, fields] of Object.entries(all)) {
          const filter = {
            ...fields,
            ...(sinceUs !== undefined && { sinceUs }),
            ...(untilUs !== undefined && { untilUs }),
          };
          const after = rows.findLast(({ time_us }) => sinceUs !== undefined && time_us < sinceUs)?.seq ?? 0;
          const until = rows.findLast(({ time_us }) => untilUs === undefined || time_us <= untilUs)?.seq ?? 0;
          const right = rows
            .filter((row) => row.seq > after && row.seq <= until && matches(row, filter))
            .map(({ seq }) => seq);
          const said = `${name} from ${sinceUs} to ${untilUs}`;
          const compare = (range: Omit<EventRange, "limit">): void => {
            const { afterSeq, beforeSeq = rows.length + 1 } = range;
            const wanted = right.filter((seq) => seq > afterSeq && seq < beforeSeq);
            const found = pages(filter, range);
            if (!isDeepStrictEqual(found, wanted)) wrong.push({ said, range, found, wanted });
          };
          compare({ afterSeq: 0 });
          compare({ afterSeq: 3 });
          compare({ afterSeq: 0, beforeSeq: rows.length + 1 });
          compare({ afterSeq: 2, beforeSeq: 5 });
        }
    t.strictSame(wrong, []);
    await index.close();
    past.close();
    archive.close();
  }
});

t.test("a moment is found without reading the log", (t) => {
  const { file } = written(t, CLOCKS[2] ?? []);
  const db = new Sqlite(file, { readonly: true });
  const plan = db
    .prepare(
      `EXPLAIN QUERY PLAN SELECT seq FROM events WHERE cmd = ${CMD.CLOCK_STEP} AND seq > ? AND seq <= ? ORDER BY seq`,
    )
    .all(1, 9) as { detail: string }[];
  t.match(plan, [{ detail: /USING COVERING INDEX clock_steps/ }]);
  db.close();
  t.end();
});

t.test("a stream up to a moment is over when the clock has passed it, not when it was ahead once", async (t) => {
  const { file } = written(t, CLOCKS[1] ?? []);
  const index = new EventIndex(file, new MemoryCells());
  t.equal(index.query({ untilUs: NOON + S }, { afterSeq: 0, limit: 9 }).over, true);
  t.equal(index.query({ untilUs: NOON + 2 * S }, { afterSeq: 0, limit: 9 }).over, false);
  await index.close();
});
