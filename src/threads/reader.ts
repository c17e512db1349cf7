/** The reader's thread: queries over the log, beside the engine and not in its way. */
import { join } from "node:path";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { snapshotOf } from "../data/archive_job.ts";
import { LOG_FILE } from "../data/layout.ts";
import { discardIndex, openIndex } from "../data/open_index.ts";
import { EventsArchived } from "../engine/archives.ts";
import { EventIndex } from "../index/event_index.ts";
import { READER } from "../index/protocol.ts";
import { filterWithBuffer } from "../log/row_transfer.ts";
import type { MapRecord } from "../maps/map.ts";
import { Damaged, Derived, faultIn, PartFailed } from "../supervisor/derived_parts.ts";
import { passGate } from "../supervisor/gate.ts";
import { thisThread } from "../supervisor/thread.ts";
import { mapsIn } from "../syscall/map_table.ts";

const thread = thisThread(READER);
const { data, gate } = thread.data;
passGate(gate);
const index = new Derived<EventIndex>({
  part: "index",
  open: () => openIndex(data),
  close: (open) => open.close(),
  discard: () => discardIndex(data),
  told: (fault) => thread.tell(fault),
  report: (message) => thread.report(message),
  isWhole: (open) => open.isWhole(),
  // What SQLite says is said of the log.
  judge(error) {
    const found = faultIn(error);
    return found === "damaged" && !(error instanceof Damaged) ? "failed" : found;
  },
});
/** What answers from the log alone, while the index has failed. */
let bare: EventIndex | null = null;

/** How often the index looks for new events. */
const LOOK_MS = 250;
/** The log must have rested this long before the newest events are stored though they are fewer than a segment has. */
const REST_MS = 2000;
let isClosing = false;
/** The log's last event, and when it was first seen. */
let seen = { last: -1, atMs: 0 };

/** The index is written to by one at a time. */
let working: Promise<unknown> = Promise.resolve();

function work<Answer>(run: (open: EventIndex) => Promise<Answer>): Promise<Answer> {
  const done = working.then(() => index.use(run));
  working = done.catch(() => {});
  return done;
}

/** Goes on without being asked, while the log grows, too; but not while the service starts, which has other work. */
async function goOn(): Promise<void> {
  await sleep(REST_MS, undefined, { ref: false });
  while (!isClosing) {
    const pauseMs = await work(advance).catch(reportStuck);
    if (!isClosing) await sleep(pauseMs, undefined, { ref: false });
  }
}

let stuck = "";

/** That the index has failed is told of already; whatever else keeps it from going on is reported once. */
function reportStuck(error: Error): number {
  if (!(error instanceof PartFailed) && error.message !== stuck && !isClosing) {
    stuck = error.message;
    thread.report(`the index does not go on: ${stuck}`);
  }
  return REST_MS;
}

/** Indexes a chunk, and stores what has to be; answers how long to pause. While the log grows, it pauses half of the time. */
async function advance(open: EventIndex): Promise<number> {
  const startedMs = performance.now();
  const last = open.lastSeq();
  const isGrowing = last !== seen.last;
  if (isGrowing) seen = { last, atMs: startedMs };
  if (open.isCutOff()) await beginBehind(open);
  try {
    const more = (!isGrowing || open.hasChunk()) && (await open.catchUp());
    if (more) return isGrowing ? performance.now() - startedMs : 0;
    if (startedMs - seen.atMs > REST_MS) await open.rest();
    return LOOK_MS;
  } catch (error) {
    if (!open.isUnwritten) throw error;
    tellUnwritten(error);
    return REST_MS;
  }
}

/** The index cannot be written to: it goes on to answer, and events that it does not have are searched in the log. */
function tellUnwritten(error: unknown): void {
  const found = faultIn(error);
  if (found !== "failed" && found !== "full") throw error;
  index.tell({ part: "index", state: "failed", detail: (error as Error).message, full: found === "full" });
}

/** Questions are answered one after the other. */
let answering: Promise<unknown> = Promise.resolve();

function inTurn<Answer>(run: () => Promise<Answer>): Promise<Answer> {
  const answer = answering.then(run);
  answering = answer.catch(() => {});
  return answer;
}

/** Answers from the index; or from the log alone, if the index has failed. */
function read<Answer>(from: (index: EventIndex) => Answer): Promise<Answer> {
  return inTurn(async () => {
    try {
      const answer = await index.use(from);
      await dropBare();
      return answer;
    } catch (error) {
      if (error instanceof PartFailed) return readBare(from, error);
      throw error;
    }
  });
}

async function readBare<Answer>(from: (log: EventIndex) => Answer, failed: PartFailed): Promise<Answer> {
  try {
    bare ??= new EventIndex(join(data, LOG_FILE), null);
    return from(bare);
  } catch (error) {
    await dropBare();
    if (error instanceof EventsArchived) throw error;
    throw failed;
  }
}

async function dropBare(): Promise<void> {
  const dropped = bare;
  bare = null;
  await dropped?.close();
}

/**
 * Begins the index behind archived events that it does not have. What it needs to know of maps that these have made is
 * in the state behind them; without it the events of batches say how long their keys are.
 */
async function beginBehind(open: EventIndex): Promise<void> {
  if (!open.isEmpty()) throw new Damaged("events that it does not have are archived");
  const archived = open.archived();
  let maps: MapRecord[] | null = [];
  try {
    const { cells } = await snapshotOf({ id: open.logId, archived }, data);
    for await (const batch of cells) {
      checkOpen();
      maps.push(...mapsIn(batch));
    }
  } catch (error) {
    checkOpen();
    thread.report(`the index begins without the maps of archived events: ${(error as Error).message}`);
    maps = null;
  }
  await open.begin(archived.through, maps);
}

/** Takes in all events that there are. Other questions are answered meanwhile. */
async function takeIn(open: EventIndex): Promise<null> {
  if (open.isCutOff()) await beginBehind(open);
  while (await open.catchUp()) {
    await setImmediate();
    checkOpen();
  }
  await open.write();
  return null;
}

/** Before it is closed: events may be archived while the service is stopped, and the index is to know of them. */
async function storeLast(open: EventIndex): Promise<void> {
  if (open.isCutOff() || index.fault !== null) return;
  if (!open.hasChunk()) await open.catchUp();
  await open.write();
}

function checkOpen(): void {
  if (isClosing) throw new Error("the service is stopping");
}

goOn();

thread.serve(
  {
    query({ filter, range }) {
      const wanted = filterWithBuffer(filter);
      return read((index) => index.query(wanted, range));
    },

    event: ({ seq }) => read((index) => index.event(seq)),

    mark: ({ seq }) => read((index) => index.mark(seq)),

    peers: ({ sessions }) => read((index) => index.peers(sessions)),

    // The log does not know which maps archived events have touched.
    isUntouched: ({ map, afterSeq, untilSeq }) => read((index) => index.isUntouched(map, afterSeq, untilSeq)),

    takeIn: () => work(takeIn),

    keptTimes: ({ filter }) => read((index) => index.keptTimes(filterWithBuffer(filter))),

    oldestSeq: () => read((index) => index.archived().through + 1),

    lastSeq: () => read((index) => index.lastSeq()),
  },
  {
    close() {
      isClosing = true;
      Promise.all([answering, working])
        .then(() => index.use(storeLast))
        .catch(() => {})
        .then(() => index.close())
        .then(dropBare)
        .finally(() => thread.close());
    },
  },
);
