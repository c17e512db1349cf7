import { parentPort, workerData } from "node:worker_threads";
import { StoreWriter } from "../lmdb/store.ts";
import { type FromWriter, type ToWriter, writeCells } from "../lmdb/threaded_store.ts";
import { passGate } from "../supervisor/gate.ts";

/** The thread that writes to the state what the engine's has changed. */
export interface WriterData {
  /** The state's; the engine's thread has it open. */
  readonly folder: string;
  readonly gate: SharedArrayBuffer;
}

const port = parentPort;
if (port === null) throw new Error("threads/state_writer.ts is the writer's thread: start src/main.ts");
const { folder, gate } = workerData as WriterData;
passGate(gate);
const writer = new StoreWriter(folder);

port.on("message", (message: ToWriter) => {
  if ("kind" in message) void writer.close().then(() => port.close());
  else port.postMessage(answer(message));
});

function answer(asked: Exclude<ToWriter, { kind: "close" }>): FromWriter {
  try {
    writeCells(writer, asked);
    return { id: asked.id };
  } catch (error) {
    const { message, code } = error as Error & { readonly code?: string };
    return { id: asked.id, failure: message, ...(code !== undefined && { code }) };
  }
}
