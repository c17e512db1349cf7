import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import type { EventFilter } from "./engine/events.ts";
import { EventIndex } from "./sqlite/event_index.ts";
import type { ReaderRequest } from "./sqlite/event_reader.ts";

/** The reader's thread: queries over the log, beside the engine and not in its way. */
const port = parentPort;
if (port === null) throw new Error("reader_main.ts is the reader's thread: start src/main.ts");
const { data } = workerData as { data: string };
let index: EventIndex | null = null;

/** The log must have rested this long before it is indexed without being asked: indexing shares the disk and the cores. */
const REST_MS = 2000;
let seen = -1;

const catchUp = (): void => {
  const last = index?.lastSeq() ?? -1;
  const rested = last === seen;
  seen = last;
  timer = setTimeout(catchUp, rested && index?.catchUp() ? 0 : REST_MS);
};
let timer = setTimeout(catchUp, REST_MS);

port.on("message", (message: ReaderRequest) => {
  switch (message.kind) {
    case "open":
      index = new EventIndex(join(data, "events.sqlite"), join(data, "index.sqlite"));
      break;
    case "close":
      clearTimeout(timer);
      index?.close();
      port.close();
      break;
    default:
      try {
        if (index === null) throw new Error("the log is not open yet");
        port.postMessage({ id: message.id, answer: answer(index, message) });
      } catch (error) {
        port.postMessage({ id: message.id, error: (error as Error).message });
      }
  }
});

/** A buffer crosses threads as a plain byte array. */
function withKey(filter: EventFilter): EventFilter {
  return filter.key === undefined ? filter : { ...filter, key: Buffer.from(filter.key) };
}

function answer(index: EventIndex, message: Exclude<ReaderRequest, { kind: "open" | "close" }>): unknown {
  switch (message.kind) {
    case "query":
      return index.query(withKey(message.filter), message.range);
    case "event":
      return index.event(message.seq);
    case "lastSeq":
      return index.lastSeq();
  }
}
