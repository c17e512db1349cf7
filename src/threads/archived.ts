import { parentPort, workerData } from "node:worker_threads";
import { ArchivedEvents } from "../data/archived_events.ts";
import { ArchivedLog, type ArchivedPlaces } from "../data/archived_log.ts";
import { EventsArchived } from "../engine/archives.ts";
import type { ArchivedAnswer, ArchivedRequest } from "../index/archived_client.ts";
import { filterWithBuffer } from "../log/row_transfer.ts";

/** The thread of archived events: unpacks what is asked for of an archive, beside all others. */
const port = parentPort;
if (port === null) throw new Error("threads/archived.ts is the thread of archived events: start src/main.ts");
const places = workerData as ArchivedPlaces;
const post = (message: ArchivedAnswer): void => port.postMessage(message);
const report = (message: string): void => port.postMessage({ kind: "part report", message });
const archived = new ArchivedLog(places, report);
const events = new ArchivedEvents(archived, places);

/** One after the other: each may have to unpack a segment. */
let answering: Promise<void> = Promise.resolve();

port.on("message", (message: ArchivedRequest) => {
  // Every page of events asks, also one of events that are not archived: it is not to wait for those that are.
  if (message.kind === "oldestSeq") void reply(message);
  else answering = answering.then(() => (message.kind === "close" ? close() : reply(message)));
});

function close(): void {
  events.close();
  port?.close();
}

type Asked = Exclude<ArchivedRequest, { kind: "close" }>;

async function reply(message: Asked): Promise<void> {
  const { id } = message;
  try {
    post({ id, answer: await answer(message) });
  } catch (error) {
    if (!(error instanceof EventsArchived)) report(`reading archived events: ${(error as Error).message}`);
    // What the disk does not let be unpacked is not at hand, either.
    post({ id, archived: error instanceof EventsArchived ? error.oldestSeq : archived.log.archivedThrough + 1 });
  }
}

async function answer(message: Asked): Promise<unknown> {
  switch (message.kind) {
    case "oldestSeq":
      return events.oldestSeq;
    case "query": {
      const { filter, range, kept } = message;
      return events.query(filterWithBuffer(filter), range, kept);
    }
    case "event":
      return events.event(message.seq);
    case "mark":
      return events.mark(message.seq);
    case "row":
      return events.row(message.seq);
    case "peers":
      return events.peers(message.sessions);
    case "lastBefore":
      return events.lastBefore(message.timeUs);
  }
}
