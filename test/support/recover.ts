import { join } from "node:path";
import { STATE_FOLDER } from "../../src/data/layout.ts";
import { openState } from "../../src/data/open_state.ts";
import { Engine } from "../../src/engine/engine.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { LayeredState } from "../../src/state/layers.ts";
import { STATE_WRITER } from "../../src/state/protocol.ts";
import { ThreadedStore } from "../../src/state/threaded_store.ts";
import { HOST } from "./commands.ts";
import { dump } from "./fold.ts";
import { noPast } from "./no_past.ts";
import { noProcesses } from "./processes.ts";

/** An engine over a data directory, recovered as at a start of the service. */
export async function openEngine(data: string): Promise<{ engine: Engine; log: SqliteEventLog; replayed: number }> {
  const log = new SqliteEventLog(join(data, "events.sqlite"));
  log.possibleCpus(HOST.possibleCpus, HOST.possibleCpus);
  const opened = await openState(log, { data, host: HOST, rebuild: false, told() {}, report() {} });
  const store = opened instanceof LayeredState ? writtenByThread(opened, join(data, STATE_FOLDER), log.id) : opened;
  const replayed = log.lastSeq - store.seq;
  const engine = new Engine({
    log,
    store,
    mirror: disabledMirror("not in this test"),
    past: noPast,
    clock: { nowUs: () => Date.now() * 1000, nowMs: () => performance.now() },
    host: HOST,
    interfaces: () => [1],
    processes: noProcesses,
    graceMs: 1000,
    report() {},
  });
  await engine.recover(() => {});
  return { engine, log, replayed };
}

function writtenByThread(layers: LayeredState, folder: string, log: string): ThreadedStore {
  return new ThreadedStore(
    layers,
    () => STATE_WRITER.start({ folder, log }),
    () => {},
  );
}

export interface Recovered {
  /** Every cell, those of freed maps reclaimed. */
  readonly cells: [key: string, value: string][];
  /** Events that the log had to give for that. */
  readonly replayed: number;
}

export async function recover(data: string): Promise<Recovered> {
  const { engine, replayed } = await openEngine(data);
  while (engine.state.garbage.reclaim(1000));
  const cells = dump(engine.state.cells);
  await engine.close();
  return { cells, replayed };
}
