/** The reader's thread: queries over the log. It works beside the engine, without delaying it. */
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
import { Damaged, Derived, faultBesideLog, faultIn, PartFailed } from "../supervisor/derived_parts.ts";
import { thisThread } from "../supervisor/thread.ts";
import { mapsIn } from "../syscall/map_table.ts";

const thread = thisThread(READER);
const { data } = thread.data;
const index = new Derived<EventIndex>({
  part: "index",
  open: () => openIndex(data),
  close: (open) => open.close(),
  discard: () => discardIndex(data),
  told: (fault) => thread.tell(fault),
  report: (message) => thread.report(message),
  isWhole: (open) => open.isWhole(),
  judge: faultBesideLog,
});
/** An index without a store: while the index has failed, it answers from the log alone. */
let bare: EventIndex | null = null;

/** How often the index looks for new events. */
const LOOK_MS = 250;
/** The log must have rested this long before the newest events are stored in a segment that is not full. */
const REST_MS = 2000;
let isClosing = false;
/** The log's last event, and when it was first seen. */
let seen = { last: -1, atMs: 0 };

/** Uses that write to the index run one after the other. */
let working: Promise<unknown> = Promise.resolve();

function work<Answer>(run: (open: EventIndex) => Promise<Answer>): Promise<Answer> {
  const done = working.then(() => index.use(run));
  working = done.catch(() => {});
  return done;
}

/** Indexes new events without a request, also while the log grows. It begins late, because a start has other work. */
async function goOn(): Promise<void> {
  await sleep(REST_MS, undefined, { ref: false });
  while (!isClosing) {
    const pauseMs = await work(advance).catch(reportStuck);
    if (!isClosing) await sleep(pauseMs, undefined, { ref: false });
  }
}

let stuck = "";

/** Reports the reason why the index does not advance, once. A failure of the index was reported already. */
function reportStuck(error: Error): number {
  if (!(error instanceof PartFailed) && error.message !== stuck && !isClosing) {
    stuck = error.message;
    thread.report(`the index does not go on: ${stuck}`);
  }
  return REST_MS;
}

/**
 * Indexes a chunk, and stores the events that are due. Returns the pause before the next call: while the log grows, as
 * long as this call took.
 */
async function advance(open: EventIndex): Promise<number> {
  const startedMs = performance.now();
  const last = open.lastSeq();
  const isGrowing = last !== seen.last;
  if (isGrowing) seen = { last, atMs: startedMs };
  if (open.isCutOff()) await beginBehind(open);
  try {
    const more = (!isGrowing || open.hasChunk()) && (await open.catchUp());
    thread.reached(open.seq);
    if (more) return isGrowing ? performance.now() - startedMs : 0;
    if (startedMs - seen.atMs > REST_MS) await open.rest();
    return LOOK_MS;
  } catch (error) {
    if (!open.isUnwritten) throw error;
    tellUnwritten(error);
    return REST_MS;
  }
}

/** Reports that the index cannot be written. It still answers, and events that it lacks are searched in the log. */
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
 * Begins the index after archived events that it lacks. The snapshot of the state after them has the key sizes of the
 * maps that they created. Without it, the events of batches tell how long their keys are.
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

/** Indexes all events of the log. Other questions are answered meanwhile. */
async function takeIn(open: EventIndex): Promise<null> {
  if (open.isCutOff()) await beginBehind(open);
  while (await open.catchUp()) {
    await setImmediate();
    checkOpen();
  }
  await open.write();
  return null;
}

/**
 * Stores the last events before the index is closed: the index must have them if they are archived while the service is
 * stopped.
 */
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

    // The log alone does not tell which maps archived events have touched.
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
