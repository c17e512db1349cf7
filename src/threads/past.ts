import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { restoreFromArchive } from "../data/archive_job.ts";
import { ArchivedLog, type ArchivedPlaces } from "../data/archived_log.ts";
import { HISTORY_FOLDER, LOG_FILE, WHOLE_FOLDER } from "../data/layout.ts";
import { WholeLog } from "../data/whole_log.ts";
import { EventsArchived } from "../engine/archives.ts";
import { FrameWriter, readRequests } from "../engine/frames.ts";
import { readHost } from "../host.ts";
import { discard, LmdbStore } from "../lmdb/store.ts";
import type { Host } from "../maps/map.ts";
import type { FromPast, ToPast } from "../past/client.ts";
import { History, Overtaken } from "../past/history.ts";
import { NotYet, Past } from "../past/past.ts";
import { VersionsStore } from "../past/versions_store.ts";
import { SqlitePastLog } from "../sqlite/past_log.ts";
import type { OfPart } from "../supervisor/asked_by_id.ts";
import { Damaged, Derived, faultIn, PartFailed } from "../supervisor/derived_parts.ts";
import { passGate } from "../supervisor/gate.ts";

/** The thread of the past: what the cells held at every moment, beside the engine and not in its way. */
interface PastData {
  readonly data: string;
  /** null: it begins at once. */
  readonly gate: SharedArrayBuffer | null;
  /** Of archived events, too: from the first one on. null: from where the log begins. */
  readonly archived: ArchivedPlaces | null;
}

const port = parentPort;
if (port === null) throw new Error("threads/past.ts is the thread of the past: start src/main.ts");
const { data, gate, archived: places } = workerData as PastData;
if (gate !== null) passGate(gate);

/** The log must have rested this long before its history is written without being asked: that shares the disk and the cores. */
const REST_MS = 2000;

interface Open {
  readonly log: SqlitePastLog | WholeLog;
  readonly history: History;
  readonly past: Past;
}

const folder = join(data, places === null ? HISTORY_FOLDER : WHOLE_FOLDER);
const history = new Derived<Open>({
  part: "history",
  open: openPast,
  async close({ log, history }) {
    try {
      await history.close();
    } finally {
      await log.close();
    }
  },
  discard: () => discard(folder),
  told: (fault) => post({ kind: "part", fault }),
  report: (message) => post({ kind: "part report", message }),
  isWhole: ({ log, history }) => history.seq >= log.lastSeq,
  // What SQLite says is said of the log.
  judge(error) {
    const found = faultIn(error);
    return found === "damaged" && !(error instanceof Damaged) ? "failed" : found;
  },
});
let seen = -1;
// What is told of archived events is made when it is asked for.
let timer = places === null ? setTimeout(catchUp, REST_MS) : undefined;
let isClosing = false;
const writer = new FrameWriter();

port.on("message", async (message: ToPast) => {
  switch (message.kind) {
    case "close":
      isClosing = true;
      clearTimeout(timer);
      await history.close();
      port.close();
      break;
    default:
      await answer(message);
  }
});

async function openPast(): Promise<Open> {
  return places === null ? openKept() : openWhole(places);
}

async function openKept(): Promise<Open> {
  const log = new SqlitePastLog(join(data, LOG_FILE));
  const host = { ...readHost(), possibleCpus: log.possibleCpus };
  try {
    const store = await openHistory(log, host);
    const history = new History(log, store, host);
    return { log, history, past: new Past(log, history, host) };
  } catch (error) {
    log.close();
    throw error;
  }
}

async function openWhole(places: ArchivedPlaces): Promise<Open> {
  const archived = new ArchivedLog(places, (message) => post({ kind: "part report", message }));
  const { id, possibleCpus, archivedThrough, lastSeq } = archived.log;
  const log = new WholeLog(archived, places);
  const host = { ...readHost(), possibleCpus };
  let store = new LmdbStore(folder, id);
  // What cannot say who has sent a command, and that of another log, is made again.
  if (store.seq > lastSeq || log.origins < Math.min(store.seq, archivedThrough)) {
    await store.close();
    discard(folder);
    store = new LmdbStore(folder, id);
  }
  const history = new History(log, store, host);
  return { log, history, past: new Past(log, history, host) };
}

/** Throws EventsArchived unless the log is at hand from its first event on. Before anything is made of it. */
function checkAtHand(places: ArchivedPlaces): void {
  const archived = new ArchivedLog(places, (message) => post({ kind: "part report", message }));
  try {
    if (archived.log.archivedThrough > 0 && archived.oldestSeq > 1) throw new EventsArchived(archived.oldestSeq);
  } finally {
    archived.close();
  }
}

/** A history of another log, of more than the log has, or of less than it begins with, is made again. */
async function openHistory(log: SqlitePastLog, host: Host): Promise<LmdbStore> {
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
    if (places !== null) checkAtHand(places);
    await history.use((open) => answerFrom(upToLog(open), message));
  } catch (error) {
    if (error instanceof Overtaken) return again(message);
    if (error instanceof NotYet) post({ id, notYet: [error.seq, error.last] });
    else if (error instanceof EventsArchived) post({ id, archived: error.oldestSeq });
    else if (error instanceof PartFailed) post({ id, fault: error.fault });
    else post({ id, error: (error as Error).message });
  }
}

async function answerFrom({ past }: Open, message: Extract<ToPast, { id: number }>): Promise<void> {
  const { id } = message;
  if (message.kind === "ask") return post({ id, answer: await past.ask(message.name, message.ask as never) });
  const { moment } = message;
  if (message.kind === "query")
    return post({ id, answer: await past.query(moment, message.name, message.ask as never) });
  const [request] = readRequests(message.frames, message.length);
  const { seq, answer } = await past.run(moment, request as never);
  writer.reply({ seq, outcome: answer });
  const { frames, length } = writer.take();
  post({ id, frames, length }, [frames]);
}

/** What has been overtaken by the archive is opened anew. */
async function again(message: Extract<ToPast, { id: number }>): Promise<void> {
  await history.close();
  return answer(message);
}

function upToLog(open: Open): Open {
  if (open.history.seq < open.log.archivedThrough) throw new Overtaken();
  return open;
}

async function catchUp(): Promise<void> {
  try {
    await history.use(async (open) => {
      const last = open.log.lastSeq;
      const rested = last === seen;
      seen = last;
      if (rested) await upToLog(open).past.catchUp();
    });
  } catch (error) {
    // That it has failed is told of already.
    if (error instanceof Overtaken) await history.close();
  }
  if (!isClosing) timer = setTimeout(catchUp, REST_MS);
}

function post(message: FromPast | OfPart, transfer: ArrayBuffer[] = []): void {
  (port as NonNullable<typeof port>).postMessage(message, transfer);
}
