import { existsSync } from "node:fs";
import { isMainThread, workerData } from "node:worker_threads";

/** Preloaded: the tree's thread stands behind its gate until there is the file that LATE_TREE names. */
const file = process.env.LATE_TREE ?? "";
const real = Atomics.wait as (...all: unknown[]) => string;
const isTree = !isMainThread && (workerData as { rule?: object } | null)?.rule !== undefined;
const nobody = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
const POLL_MS = 10;

if (isTree)
  Atomics.wait = ((...all: unknown[]) => {
    const answer = real(...all);
    while (!existsSync(file)) real(nobody, 0, 0, POLL_MS);
    return answer;
  }) as typeof Atomics.wait;
