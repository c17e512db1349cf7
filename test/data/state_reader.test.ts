import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { archiveStopped } from "../../src/data/archive_job.ts";
import { type LedgerRead, readState } from "../../src/data/state_reader.ts";
import { dump } from "../support/fold.ts";
import { recover } from "../support/recover.ts";
import { writeLog } from "../support/write_log.ts";

/** Every cell, those of freed maps reclaimed. */
function cells({ state }: LedgerRead): ReturnType<typeof dump> {
  while (state.garbage.reclaim(1000));
  return dump(state.cells);
}

t.test("the state of a data directory is read from its file, from the log, or from what was archived", async (t) => {
  const data = mkdtempSync(join(tmpdir(), "mapledger-read-"));
  t.teardown(() => rmSync(data, { recursive: true }));
  await t.rejects(readState(data, cells), /is not a data directory/);
  t.same(readdirSync(data), []);
  await writeLog(data);
  const expected = (await recover(data)).cells;
  t.ok(expected.length > 20);
  const state = join(data, "state");
  t.same(await readState(data, cells), expected, "its file");
  rmSync(state, { recursive: true });
  t.same(await readState(data, cells), expected, "the log alone");
  t.notOk(readdirSync(data).includes("state"), "and no file is made");
  await archiveStopped({ data, directory: "", before: "201" }, () => {});
  t.same(await readState(data, cells), expected, "a snapshot, and the log behind it");
  await recover(data);
  t.same(await readState(data, cells), expected);
});
