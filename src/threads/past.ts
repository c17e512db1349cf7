/**
 * The thread of the past: all cells as of every moment. It works beside the engine, without delaying it. A second
 * thread of this file folds the whole log from event 1 on, archived events included, into a history of its own,
 * `whole/`.
 */

import { join } from "node:path";
import { restoreFromArchive } from "../data/archive_job.ts";
import { ArchivedLog } from "../data/archived_log.ts";
import { HISTORY_FOLDER, LOG_FILE, WHOLE_FOLDER } from "../data/layout.ts";
import { WholeLog } from "../data/whole_log.ts";
import { type ArchivedPlaces, EventsArchived } from "../engine/archives.ts";
import { FrameWriter, readRequests } from "../engine/frames.ts";
import type { ReadName, Reads } from "../engine/views.ts";
import { emptyFolder } from "../files/contents.ts";
import { readHost } from "../host.ts";
import type { Host } from "../maps/map.ts";
import { History, Overtaken } from "../past/history.ts";
import { type AsOf, Past } from "../past/past.ts";
import { type AsOfReads, PAST } from "../past/protocol.ts";
import type { PastReadName, PastReads } from "../past/reads.ts";
import { VERSION_FILTER } from "../past/versions.ts";
import { VersionsStore } from "../past/versions_store.ts";
import { RunsStore } from "../runs/store.ts";
import { SqlitePastLog } from "../sqlite/past_log.ts";
import { Derived, faultBesideLog } from "../supervisor/derived_parts.ts";
import { thisThread } from "../supervisor/thread.ts";

const thread = thisThread(PAST);
const { data, archived: places } = thread.data;

/**
 * How often the history looks for new events. If the log has none since the last look, or many, they are written without a
 * request: writing takes disk time and cores, and many events at once cost less.
 */
const LOOK_MS = 500;
const MANY_EVENTS = 16_384;

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
  discard: () => emptyFolder(folder),
  told: (fault) => thread.tell(fault),
  report: (message) => thread.report(message),
  isWhole: ({ log, history }) => history.seq >= log.lastSeq,
  judge: faultBesideLog,
});
let seen = -1;
// The history of the whole log, with archived events, is written only on request.
let timer = places === null ? setTimeout(catchUp, LOOK_MS) : undefined;
let isClosing = false;
const writer = new FrameWriter();

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
  const archived = new ArchivedLog(places, (message) => thread.report(message));
  const { id, possibleCpus, archivedThrough, lastSeq } = archived.log;
  const log = new WholeLog(archived, places);
  const host = { ...readHost(), possibleCpus };
  let store = openStore(id);
  // A history that is ahead of the log, or that has archived events whose senders are not known, is made again.
  if (store.seq > lastSeq || log.origins < Math.min(store.seq, archivedThrough)) {
    await store.close();
    emptyFolder(folder);
    store = openStore(id);
  }
  const history = new History(log, store, host);
  return { log, history, past: new Past(log, history, host) };
}

/** Throws EventsArchived unless all archived events are at hand. Call it before the history is opened. */
function checkAtHand(places: ArchivedPlaces): void {
  const archived = new ArchivedLog(places, (message) => thread.report(message));
  try {
    if (archived.log.archivedThrough > 0 && archived.oldestSeq > 1) throw new EventsArchived(archived.oldestSeq);
  } finally {
    archived.close();
  }
}

function openStore(log: string): RunsStore {
  return new RunsStore(folder, log, { filtered: VERSION_FILTER });
}

/** Opens the history. If it is of another log, is ahead of the log, or lacks archived events, it is made again. */
async function openHistory(log: SqlitePastLog, host: Host): Promise<RunsStore> {
  let store = openStore(log.id);
  const { through } = log.archived;
  if (store.seq >= through && store.seq <= log.lastSeq) return store;
  await store.close();
  emptyFolder(folder);
  store = openStore(log.id);
  if (through > 0) await restoreFromArchive(new VersionsStore(store, through), log, { data, host });
  return store;
}

async function using<Answer>(answer: (past: Past) => Promise<Answer>): Promise<Answer> {
  if (places !== null) checkAtHand(places);
  try {
    return await history.use((open) => answer(upToLog(open).past));
  } catch (error) {
    if (!(error instanceof Overtaken)) throw error;
    // The archive has overtaken the history, so it is opened anew.
    await history.close();
    return using(answer);
  }
}

function asOf<Name extends ReadName>(
  name: Name,
): (question: AsOfReads[Name]["ask"]) => Promise<AsOf<Reads[Name]["answer"]>> {
  return ({ moment, ask }) => using((past) => past.query(moment, name, ask));
}

function read<Name extends PastReadName>(
  name: Name,
): (ask: PastReads[Name]["ask"]) => Promise<PastReads[Name]["answer"]> {
  return (ask) => using((past) => past.ask(name, ask));
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
      if (rested || last - open.history.seq >= MANY_EVENTS) await upToLog(open).past.catchUp();
      thread.reached(open.history.seq);
    });
  } catch (error) {
    // All other failures were reported by `history`.
    if (error instanceof Overtaken) await history.close();
  }
  if (!isClosing) timer = setTimeout(catchUp, LOOK_MS);
}

thread.serve(
  {
    session: asOf("session"),
    sessions: asOf("sessions"),
    fds: asOf("fds"),
    map: asOf("map"),
    maps: asOf("maps"),
    pins: asOf("pins"),
    directories: asOf("directories"),
    btfs: asOf("btfs"),
    btf: asOf("btf"),
    types: asOf("types"),

    elementVersions: read("elementVersions"),
    diff: read("diff"),
    lagging: read("lagging"),
    ever: read("ever"),
    former: read("former"),
    stood: read("stood"),
    restore: read("restore"),

    async run({ moment, frames, length }, transfer) {
      const [request] = readRequests(frames, length);
      if (request === undefined) throw new Error("the frames have no request");
      const { seq, answer } = await using((past) => past.run(moment, request));
      writer.reply({ seq, outcome: answer });
      const reply = writer.take();
      transfer.push(reply.frames);
      return reply;
    },
  },
  {
    async close() {
      isClosing = true;
      clearTimeout(timer);
      await history.close();
      thread.close();
    },
  },
);
