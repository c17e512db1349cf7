import { test } from "tap";
import { MemoryCells } from "../../src/engine/memory.ts";
import { History, type PastLog } from "../../src/past/history.ts";
import { HistoryBehind, Past } from "../../src/past/past.ts";
import { HOST } from "../support/commands.ts";

/** A log whose events change nothing. */
function logOf(lastSeq: number): PastLog & { lastSeq: number } {
  return {
    lastSeq,
    archivedThrough: 0,
    atHandAfter: 0,
    changesAfter(seq) {
      return { events: [], until: Math.min(seq + 4096, this.lastSeq) };
    },
    origin: () => {
      throw new Error("nobody asks");
    },
    seqAt: () => 0,
  };
}

test("a question far ahead of the history is told how far it is, while the history goes on", async (t) => {
  const log = logOf(1_000_000);
  const history = new History(log, new MemoryCells(), HOST);
  const past = new Past(log, history, HOST);
  const ask = () => past.query({ seq: log.lastSeq }, "pins", { after: "", limit: 1 });
  const error = await ask().catch((error) => error);
  t.ok(error instanceof HistoryBehind);
  t.match(error, { seq: 0, wanted: 1_000_000, message: "the history is being made: it has 0 of 1000000 events" });
  await history.reach(log.lastSeq);
  t.match(await ask(), { seq: 1_000_000 });
  log.lastSeq += 40_000;
  t.match(await ask(), { seq: 1_040_000 }, "a question waits for few events");
  await history.close();
});
