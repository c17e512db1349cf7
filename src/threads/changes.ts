import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import Sqlite from "better-sqlite3";
import { readChunks } from "../sqlite/changes.ts";
import type { Stretch } from "../sqlite/changes_ahead.ts";

/** The thread of readChunksAhead(): posts a chunk for each message that it gets, while there are any. */
const port = parentPort as MessagePort;
const { file, afterSeq, lastSeq } = workerData as Stretch;
const chunks = readChunks(new Sqlite(file, { readonly: true }), afterSeq, lastSeq)[Symbol.iterator]();
port.on("message", () => {
  const { value, done } = chunks.next();
  if (done === true) return;
  const { keys, values } = value.plain;
  port.postMessage(
    value,
    [keys, values].flatMap((bytes) => (bytes === null ? [] : [bytes.buffer as ArrayBuffer])),
  );
});
