import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Worker } from "node:worker_threads";
import t from "tap";
import { CellTable } from "../../src/engine/cell_table.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import { LayeredState } from "../../src/state/layers.ts";
import { STATE_WRITER } from "../../src/state/protocol.ts";
import { ThreadedStore } from "../../src/state/threaded_store.ts";
import { takeOwnDescriptors } from "../support/no_descriptors.ts";

function cells(value: string): CellTable {
  const table = new CellTable();
  table.set("key", Buffer.from(value));
  return table;
}

t.test("while no writer can be started, the state is read; then it is written", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-state-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const lmdb = new LmdbStore(folder, "log");
  await lmdb.write([["key", Buffer.from("1")]], 1, 4);
  let giveBack = (): void => {};
  let isShort = true;
  const start = (): Worker => {
    if (!isShort) return STATE_WRITER.start({ folder, log: "log" });
    giveBack = takeOwnDescriptors();
    throw new Error("a thread needs descriptors");
  };
  const store = new ThreadedStore(new LayeredState(folder, lmdb), start, () => {});
  try {
    await t.rejects(store.write(cells("2"), 2, 4), { name: "NoThread", message: /a thread needs descriptors/ });
    t.equal(store.get("key")?.toString(), "1");
  } finally {
    giveBack();
  }
  isShort = false;
  await store.write(cells("2"), 2, 4);
  t.equal(store.get("key")?.toString(), "2");
  await store.close();
});
