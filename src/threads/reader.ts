import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { snapshotOf } from "../data/archive_job.ts";
import { INDEX_FILE, LOG_FILE } from "../data/layout.ts";
import { EventsArchived } from "../engine/archives.ts";
import type { ReaderAnswer, ReaderRequest } from "../index/client.ts";
import { discardIndex, EventIndex, isIndexSound, withoutIndex } from "../index/event_index.ts";
import { filterWithBuffer } from "../log/row_transfer.ts";
import type { MapRecord } from "../maps/map.ts";
import type { OfPart } from "../supervisor/asked_by_id.ts";
import { Derived, faultIn, PartFailed } from "../supervisor/derived_parts.ts";
import { passGate } from "../supervisor/gate.ts";
import { mapsIn } from "../syscall/state.ts";

/** The reader's thread: queries over the log, beside the engine and not in its way. */
interface ReaderData {
  readonly data: string;
  readonly gate: SharedArrayBuffer;
}

const port = parentPort;
if (port === null) throw new Error("threads/reader.ts is the reader's thread: start src/main.ts");
const { data, gate } = workerData as ReaderData;
passGate(gate);
const logFile = join(data, LOG_FILE);
const indexFile = join(data, INDEX_FILE);
const post = (message: ReaderAnswer | OfPart): void => port.postMessage(message);
const index = new Derived<EventIndex>({
  part: "index",
  open: () => new EventIndex(logFile, indexFile),
  close: (open) => open.close(),
  discard: () => discardIndex(indexFile),
  told: (fault) => post({ kind: "part", fault }),
  report: (message) => post({ kind: "part report", message }),
  isWhole: (open) => open.isWhole(),
  // Both files are SQLite's: an index that is sound is not made again for what the log is.
  judge(error) {
    const found = faultIn(error);
    return found === "damaged" && isIndexSound(indexFile) ? "failed" : found;
  },
});
/** What there is without an index, while it has failed. */
let bare: EventIndex | null = null;

/** The log must have rested this long before it is indexed without being asked: indexing shares the disk and the cores. */
const REST_MS = 2000;
let seen = -1;
let isClosing = false;
let timer = setTimeout(catchUp, REST_MS);

async function catchUp(): Promise<void> {
  let more = false;
  try {
    more = await index.use((open) => {
      const last = open.lastSeq();
      const rested = last === seen;
      seen = last;
      return rested && !open.isCutOff() && open.catchUp();
    });
  } catch {
    // That it has failed is told of already.
  }
  if (!isClosing) timer = setTimeout(catchUp, more ? 0 : REST_MS);
}

port.on("message", (message: ReaderRequest) => {
  switch (message.kind) {
    case "close":
      isClosing = true;
      clearTimeout(timer);
      answering
        .then(() => index.close())
        .finally(() => {
          bare?.close();
          port.close();
        });
      break;
    default:
      answering = answering.then(() => reply(message));
  }
});

/** One after the other: an answer may have to wait for a snapshot. */
let answering: Promise<void> = Promise.resolve();

async function reply(message: Asked): Promise<void> {
  const { id } = message;
  try {
    const found = await index.use(async (open) => {
      if (TAKE_IN.has(message.kind) && open.isCutOff()) await skipArchived(open);
      return answer(open, message);
    });
    if (index.fault === null) withBare(null);
    post({ id, answer: found });
  } catch (error) {
    if (error instanceof PartFailed) replyWithout(message, error);
    else if (error instanceof EventsArchived) post({ id, archived: error.oldestSeq });
    else post({ id, error: (error as Error).message });
  }
}

/** What needs no index is answered all the same. */
function replyWithout(message: Asked, { fault }: PartFailed): void {
  const { id } = message;
  try {
    const found = answerWithout(withBare(bare ?? withoutIndex(logFile)), message);
    if (found === undefined) post({ id, fault });
    else post({ id, answer: found });
  } catch (error) {
    withBare(null);
    if (error instanceof EventsArchived) post({ id, archived: error.oldestSeq });
    else post({ id, fault });
  }
}

function withBare<Bare extends EventIndex | null>(now: Bare): Bare {
  if (bare !== now) bare?.close();
  bare = now;
  return now;
}

function answerWithout(open: EventIndex, message: Asked): unknown {
  if (message.kind === "query") return open.queryWithout(filterWithBuffer(message.filter), message.range);
  if (message.kind === "peers") return open.peersWithout(message.sessions);
  // What archived events have touched is known to the index alone.
  if (message.kind === "untouched") return false;
  if (message.kind === "take in") return undefined;
  return answer(open, message);
}

/** What the index needs to know of maps that archived events have made is in the state behind them. */
async function skipArchived(open: EventIndex): Promise<void> {
  const archived = open.archived();
  const maps: MapRecord[] = [];
  const { cells } = await snapshotOf({ id: open.logId, archived }, data);
  for await (const batch of cells) maps.push(...mapsIn(batch));
  open.skip(archived.through, maps);
}

type Asked = Exclude<ReaderRequest, { kind: "close" }>;

/** Questions for which the index takes in what is new. */
const TAKE_IN: ReadonlySet<Asked["kind"]> = new Set(["query", "peers", "take in"]);

function answer(index: EventIndex, message: Asked): unknown {
  switch (message.kind) {
    case "query":
      return index.query(filterWithBuffer(message.filter), message.range);
    case "event":
      return index.event(message.seq);
    case "peers":
      return index.peers(message.sessions);
    case "mark":
      return index.mark(message.seq);
    case "untouched":
      return index.isUntouched(message.map, message.afterSeq, message.untilSeq);
    case "take in":
      while (index.catchUp());
      return null;
    case "keptTimes":
      return index.keptTimes(message.filter);
    case "oldestSeq":
      return index.archived().through + 1;
    case "lastSeq":
      return index.lastSeq();
  }
}
