import { on } from "node:events";
import { Worker } from "node:worker_threads";
import { withBuffers } from "../log/row_transfer.ts";
import type { Chunk } from "./changes.ts";

/** Which part of which log. */
export interface Stretch {
  readonly file: string;
  readonly afterSeq: number;
  readonly lastSeq: number;
}

/** Chunks that may wait to be taken. */
const AHEAD_CHUNKS = 8;

/** Chunks of a log, read by a thread of their own while the ones before are replayed. */
export async function* readChunksAhead(stretch: Stretch): AsyncIterable<Chunk> {
  const worker = new Worker(new URL("../threads/changes.ts", import.meta.url), { workerData: stretch });
  try {
    const messages = on(worker, "message", { close: ["exit"] }) as AsyncIterable<[Chunk]>;
    for (let asked = 0; asked < AHEAD_CHUNKS; asked++) worker.postMessage("next");
    for await (const [chunk] of messages) {
      worker.postMessage("next");
      yield { ...chunk, others: chunk.others.map(withBuffers) };
      if (chunk.until === stretch.lastSeq) return;
    }
    throw new Error(`reading ${stretch.file}: the thread that reads it has ended`);
  } finally {
    await worker.terminate();
  }
}
