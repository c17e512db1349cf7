import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { restoreFromArchive } from "./archiving.ts";
import { EventsArchived } from "./engine/archives.ts";
import { FrameWriter, readRequests } from "./engine/frames.ts";
import { History, Overtaken } from "./engine/history.ts";
import { NotYet, Past } from "./engine/past.ts";
import type { FromPast, ToPast } from "./engine/past_client.ts";
import { VersionsStore } from "./engine/versions_store.ts";
import { readHost } from "./host.ts";
import { discard, LmdbStore } from "./lmdb/store.ts";
import type { Host } from "./maps/map.ts";
import { SqlitePastLog } from "./sqlite/past_log.ts";
import { passGate } from "./thread_gate.ts";

/** The thread of the past: what the cells held at every moment, beside the engine and not in its way. */
interface PastData {
  readonly data: string;
  readonly gate: SharedArrayBuffer;
}

const port = parentPort;
if (port === null) throw new Error("past_main.ts is the thread of the past: start src/main.ts");
const { data, gate } = workerData as PastData;
passGate(gate);

/** The log must have rested this long before its history is written without being asked: that shares the disk and the cores. */
const REST_MS = 2000;

interface Open {
  readonly log: SqlitePastLog;
  readonly history: History;
  readonly past: Past;
}

let open = openPast();
let seen = -1;
let timer = setTimeout(catchUp, REST_MS);
const writer = new FrameWriter();

port.on("message", async (message: ToPast) => {
  switch (message.kind) {
    case "close":
      clearTimeout(timer);
      await close();
      port.close();
      break;
    default:
      await answer(message);
  }
});

async function openPast(): Promise<Open> {
  const log = new SqlitePastLog(join(data, "events.sqlite"));
  const host = { ...readHost(), possibleCpus: log.possibleCpus };
  const store = await openHistory(join(data, "history"), log, host);
  const history = new History(log, store, host);
  return { log, history, past: new Past(log, history, host) };
}

/** A history of another log, of more than the log has, or of less than it begins with, is made again. */
async function openHistory(folder: string, log: SqlitePastLog, host: Host): Promise<LmdbStore> {
  let store = new LmdbStore(folder, log.id);
  const { through } = log.archived;
  if (store.seq >= through && store.seq <= log.lastSeq) return store;
  await store.close();
  discard(folder);
  store = new LmdbStore(folder, log.id);
  if (through > 0) await restoreFromArchive(new VersionsStore(store, through), log, { data, host });
  return store;
}

async function answer(message: Extract<ToPast, { id: number }>): Promise<void> {
  const { id } = message;
  try {
    const { past } = await upToLog(open);
    if (message.kind === "ask") return post({ id, answer: await past.ask(message.name, message.ask as never) });
    const { moment } = message;
    if (message.kind === "query")
      return post({ id, answer: await past.query(moment, message.name, message.ask as never) });
    const [request] = readRequests(message.frames, message.length);
    const { seq, answer } = await past.run(moment, request as never);
    writer.reply({ seq, outcome: answer });
    const { frames, length } = writer.take();
    post({ id, frames, length }, [frames]);
  } catch (error) {
    if (error instanceof Overtaken) return answer(message);
    if (error instanceof NotYet) post({ id, notYet: [error.seq, error.last] });
    else if (error instanceof EventsArchived) post({ id, archived: error.oldestSeq });
    else post({ id, error: (error as Error).message });
  }
}

/** What has been overtaken by the archive is opened anew. */
async function upToLog(opening: Promise<Open>): Promise<Open> {
  const { log, history } = await opening;
  if (history.seq >= log.archivedThrough) return opening;
  if (open === opening) open = close().then(openPast);
  return open;
}

async function catchUp(): Promise<void> {
  const { log, past } = await upToLog(open);
  const last = log.lastSeq;
  const rested = last === seen;
  seen = last;
  // A full disk, say: who asks is told.
  if (rested) await past.catchUp().catch(() => {});
  timer = setTimeout(catchUp, REST_MS);
}

async function close(): Promise<void> {
  const { log, history } = await open;
  await history.close();
  log.close();
}

function post(message: FromPast, transfer: ArrayBuffer[] = []): void {
  (port as NonNullable<typeof port>).postMessage(message, transfer);
}
