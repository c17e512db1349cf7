/** The engine's thread: everything that touches the disk or the kernel. */
import { join } from "node:path";
import { limitsOf } from "../config.ts";
import { addedTo, takeUp } from "../data/closing_mark.ts";
import { LOCK_FILE, LOG_FILE, STATE_FOLDER } from "../data/layout.ts";
import { openState } from "../data/open_state.ts";
import { giveReserve, keepReserve } from "../data/reserve.ts";
import { AskedPast } from "../engine/asked_past.ts";
import { Engine } from "../engine/engine.ts";
import type { Clock } from "../engine/ports.ts";
import { serveEngine } from "../engine/worker.ts";
import { interfaces, readHost } from "../host.ts";
import { ThreadedMapMaker } from "../mirror/map_maker.ts";
import { openMirror } from "../mirror/mirror.ts";
import { MAP_MAKER } from "../mirror/protocol.ts";
import { WatchedProcesses } from "../mirror/watched_processes.ts";
import { ENGINE_THREAD } from "../service/engine_thread.ts";
import { SqliteEventLog } from "../sqlite/event_log.ts";
import { holdLock } from "../sqlite/lock.ts";
import { LayeredState } from "../state/layers.ts";
import { STATE_WRITER } from "../state/protocol.ts";
import { ThreadedStore } from "../state/threaded_store.ts";
import { Damaged, faultIn, type PartFault } from "../supervisor/derived_parts.ts";
import { passGate } from "../supervisor/gate.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(ENGINE_THREAD);
const { settings, rebuild, gate } = thread.data;
passGate(gate);
const report = (message: string, error: unknown): void => {
  thread.say("report", { message, error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  if (error instanceof Damaged) endDamaged(error);
};
const stateTold = (fault: PartFault | null): void => thread.say("part", { part: "state", fault });

const unlock = holdLock(join(settings.data, LOCK_FILE), settings.data);
const log = openLog();
/**
 * Opens the log. If the disk has no room for the files that SQLite needs to read it, the reserve is removed to make
 * room.
 */
function openLog(): SqliteEventLog {
  const open = (): SqliteEventLog => new SqliteEventLog(join(settings.data, LOG_FILE));
  try {
    const opened = open();
    keepReserve(settings.data);
    return opened;
  } catch (error) {
    const isRoom = faultIn(error) === "full" || /^SQLITE_IOERR_SHM/.test(String((error as { code?: unknown }).code));
    // A failed sync is not tried again: the next one would succeed, whatever was lost.
    if (!isRoom || !giveReserve(settings.data)) throw error;
    return open();
  }
}
const added = addedTo(settings.data, log);
if (added !== null) report(added, "no service of this ledger has written these events: see mapledger verify");
takeUpOrLater();
/**
 * Removes the tree's closing mark. If the disk does not allow that yet, reads are served, and the mark is removed
 * before anything is written to the log.
 */
function takeUpOrLater(): void {
  try {
    takeUp(settings.data, log.id);
  } catch (error) {
    const found = faultIn(error);
    if (found === null) throw error;
    // The tree's thread refuses a damaged tree.
    if (found !== "damaged") log.beforeFirst = () => takeUp(settings.data, log.id);
  }
}
const machine = readHost();
const host = {
  ...machine,
  possibleCpus: log.possibleCpus(settings.cpus, machine.possibleCpus),
  btfBytesMax: settings.btfBytesMax,
  valueBytesMax: settings.valueBytesMax,
};
const opened = await openState(log, { data: settings.data, host, rebuild, report, told: stateTold });
const store = opened instanceof LayeredState ? threaded(opened) : opened;
function threaded(opened: LayeredState): ThreadedStore {
  const data = { folder: join(settings.data, STATE_FOLDER), log: log.id };
  return new ThreadedStore(
    opened,
    () => STATE_WRITER.start(data),
    (message) => thread.say("notice", { message }),
  );
}
/**
 * Ends the process because the state is damaged. The cells in memory cannot be trusted either, so the next start makes
 * the state again.
 */
function endDamaged({ message }: Damaged): void {
  opened.condemn(message);
  thread.say("ended", { why: `the state is damaged, and the next start makes it again: ${message}` });
}
const replayed = log.lastSeq - store.seq;
const cpus = { ledger: host.possibleCpus, machine: machine.possibleCpus };
/**
 * Starts the thread that makes kernel maps. This thread uses the descriptors that the maker opens; they stay open if
 * the maker ends.
 */
function maker(): ThreadedMapMaker {
  return new ThreadedMapMaker(
    () => MAP_MAKER.start({ cpus }),
    (message) => thread.say("notice", { message }),
  );
}
const mirror = openMirror({
  maker,
  mode: settings.mirror,
  bpffs: settings.bpffs,
  data: settings.data,
  openRoots: settings.openRoots,
  host,
  machineCpus: machine.possibleCpus,
});
const clock: Clock = { nowUs: () => Date.now() * 1000, nowMs: () => performance.now() };
const graceMs = settings.attachGraceSeconds * 1000;
const engine = await condemning(async () => {
  const engine = new Engine({
    log,
    store,
    mirror,
    clock,
    host,
    interfaces,
    processes: new WatchedProcesses(),
    past: new AskedPast(thread.port),
    graceMs,
    limits: limitsOf(settings),
    report,
    stateTold,
    ended: (why) => thread.say("ended", { why: `${why}; the next start finds out which events the log has` }),
    notice: (message) => thread.say("notice", { message }),
  });
  await engine.recover(
    (done, total) => thread.say("progress", { what: "events", done, total }),
    (done, total) => thread.say("progress", { what: "kernel maps", done, total }),
  );
  return engine;
});
/** If the state turns out to be damaged, the next start makes it again. */
async function condemning<Of>(work: () => Promise<Of>): Promise<Of> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Damaged) opened.condemn(error.message);
    throw error;
  }
}
if (settings.mirror === "required" && mirror.off !== null) throw new Error(`the mirror is required: ${mirror.off}`);
// An error outside of batches and queries, for example in a callback of the store, is reported, and the engine goes on.
process.on("uncaughtException", (error) => report("the engine's thread", error));
const closed = (): void => {
  keepReserve(settings.data);
  unlock();
};
serveEngine({ path: engine, ownWork: engine, sources: engine.sources, clock, closed, report }, thread.port);
const ledger = { id: log.id, life: log.life };
thread.say("grown", { seq: engine.seq });
thread.say("ready", { seq: engine.seq, ledger, mirrorOff: mirror.off, replayed });
