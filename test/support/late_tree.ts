import { existsSync } from "node:fs";
import { isMainThread, workerData } from "node:worker_threads";

/** Preloaded: the tree's thread does not begin to load until there is the file that LATE_TREE names. */
const file = process.env.LATE_TREE ?? "";
const isTree = !isMainThread && (workerData as { rule?: object } | null)?.rule !== undefined;
const nobody = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
const POLL_MS = 10;

if (isTree) while (!existsSync(file)) Atomics.wait(nobody, 0, 0, POLL_MS);
