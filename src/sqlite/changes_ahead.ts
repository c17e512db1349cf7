/** Reads chunks of a log in a thread of its own, while earlier chunks are applied. */

import { on } from "node:events";
import { Worker } from "node:worker_threads";
import { withBuffers } from "../log/row_transfer.ts";
import type { Chunk } from "./changes.ts";

/** A range of events of a log's file. */
export interface Stretch {
  readonly file: string;
  readonly afterSeq: number;
  readonly lastSeq: number;
}

/** The most chunks that are read but not taken. */
const AHEAD_CHUNKS = 8;

/** As readChunks. Throws an Error if the thread ends early. */
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
