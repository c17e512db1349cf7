import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import type { Settings } from "./config.ts";
import { AskedPast } from "./engine/asked_past.ts";
import { Engine } from "./engine/engine.ts";
import type { FromEngine } from "./engine/worker.ts";
import { serveEngine } from "./engine/worker.ts";
import { interfaces, readHost } from "./host.ts";
import { openMirror } from "./mirror/mirror.ts";
import { WatchedProcesses } from "./mirror/watched_processes.ts";
import { openState } from "./open_state.ts";
import { SqliteEventLog } from "./sqlite/event_log.ts";
import { holdLock } from "./sqlite/lock.ts";

/** The engine's thread: everything that touches the disk or the kernel. */
export interface EngineData {
  readonly settings: Settings;
  /** Make the state again from the log. */
  readonly rebuild: boolean;
}

const port = parentPort;
if (port === null) throw new Error("engine_main.ts is the engine's thread: start src/main.ts");
const { settings, rebuild } = workerData as EngineData;
const say = (message: FromEngine): void => port.postMessage(message);
const report = (message: string, error: unknown): void =>
  say({ kind: "report", message, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });

const unlock = holdLock(join(settings.data, "lock.sqlite"), settings.data);
const log = new SqliteEventLog(join(settings.data, "events.sqlite"));
const machine = readHost();
const host = { ...machine, possibleCpus: log.possibleCpus(settings.cpus, machine.possibleCpus) };
const store = await openState(log, { data: settings.data, host, rebuild, report });
const replayed = log.lastSeq - store.seq;
const mirror = openMirror({
  mode: settings.mirror,
  bpffs: settings.bpffs,
  data: settings.data,
  openRoots: settings.openRoots,
  host,
  machineCpus: machine.possibleCpus,
});
const clock = { nowUs: () => Date.now() * 1000 };
const graceMs = settings.attachGraceSeconds * 1000;
const engine = new Engine({
  log,
  store,
  mirror,
  clock,
  host,
  interfaces,
  processes: new WatchedProcesses(),
  past: new AskedPast(port),
  graceMs,
  report,
  notice: (message) => say({ kind: "notice", message }),
});
await engine.recover(
  (done, total) => say({ kind: "progress", what: "events", done, total }),
  (done, total) => say({ kind: "progress", what: "kernel maps", done, total }),
);
if (settings.mirror === "required" && mirror.off !== null) throw new Error(`the mirror is required: ${mirror.off}`);
// Whatever fails beside batches and queries, a callback of the store's, say: the log goes on.
process.on("uncaughtException", (error) => report("the engine's thread", error));
serveEngine(engine, port, unlock, report);
say({ kind: "ready", seq: engine.seq, mirrorOff: mirror.off, replayed });
