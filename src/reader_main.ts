import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { snapshotOf } from "./archiving.ts";
import { EventsArchived } from "./engine/archives.ts";
import type { EventFilter } from "./log/event_filter.ts";
import type { MapRecord } from "./maps/map.ts";
import { EventIndex } from "./sqlite/event_index.ts";
import type { ReaderAnswer, ReaderRequest } from "./sqlite/event_reader.ts";
import { mapsIn } from "./syscall/state.ts";
import { passGate } from "./thread_gate.ts";

/** The reader's thread: queries over the log, beside the engine and not in its way. */
interface ReaderData {
  readonly data: string;
  readonly gate: SharedArrayBuffer;
}

const port = parentPort;
if (port === null) throw new Error("reader_main.ts is the reader's thread: start src/main.ts");
const { data, gate } = workerData as ReaderData;
passGate(gate);
const index = new EventIndex(join(data, "events.sqlite"), join(data, "index.sqlite"));

/** The log must have rested this long before it is indexed without being asked: indexing shares the disk and the cores. */
const REST_MS = 2000;
let seen = -1;

const catchUp = (): void => {
  const last = index.lastSeq();
  const rested = last === seen;
  seen = last;
  timer = setTimeout(catchUp, rested && !index.isCutOff() && index.catchUp() ? 0 : REST_MS);
};
let timer = setTimeout(catchUp, REST_MS);

port.on("message", (message: ReaderRequest) => {
  switch (message.kind) {
    case "close":
      clearTimeout(timer);
      index.close();
      port.close();
      break;
    default:
      answering = answering.then(() => reply(message));
  }
});

/** One after the other: an answer may have to wait for a snapshot. */
let answering: Promise<void> = Promise.resolve();

async function reply(message: Asked): Promise<void> {
  const { id } = message;
  const post = (answer: ReaderAnswer): void => port?.postMessage(answer);
  try {
    if (message.kind === "query" && index.isCutOff()) await skipArchived();
    post({ id, answer: answer(message) });
  } catch (error) {
    if (error instanceof EventsArchived) post({ id, archived: error.oldestSeq });
    else post({ id, error: (error as Error).message });
  }
}

/** What the index needs to know of maps that archived events have made is in the state behind them. */
async function skipArchived(): Promise<void> {
  const archived = index.archived();
  const maps: MapRecord[] = [];
  const { cells } = await snapshotOf({ id: index.logId, archived }, data);
  for await (const batch of cells) maps.push(...mapsIn(batch));
  index.skip(archived.through, maps);
}

/** A buffer crosses threads as a plain byte array. */
function withKey(filter: EventFilter): EventFilter {
  return filter.key === undefined ? filter : { ...filter, key: Buffer.from(filter.key) };
}

type Asked = Exclude<ReaderRequest, { kind: "close" }>;

function answer(message: Asked): unknown {
  switch (message.kind) {
    case "query":
      return index.query(withKey(message.filter), message.range);
    case "event":
      return index.event(message.seq);
    case "oldestSeq":
      return index.archived().through + 1;
    case "lastSeq":
      return index.lastSeq();
  }
}
