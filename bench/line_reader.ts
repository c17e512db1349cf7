import { request } from "node:http";
import { parentPort, workerData } from "node:worker_threads";

/** What is asked for, as NDJSON; the thread answers how much came. */
export interface LinesRead {
  readonly lines: number;
  readonly bytes: number;
  readonly ms: number;
}

const NEWLINE = 10;
const started = performance.now();
let [lines, bytes] = [0, 0];
request(workerData as string, { headers: { accept: "application/x-ndjson" } }, (response) => {
  if (response.statusCode !== 200) throw new Error(`reading ${workerData}: ${response.statusCode}`);
  response.on("data", (piece: Buffer) => {
    bytes += piece.length;
    for (let at = piece.indexOf(NEWLINE); at !== -1; at = piece.indexOf(NEWLINE, at + 1)) lines++;
  });
  response.on("end", () => parentPort?.postMessage({ lines, bytes, ms: performance.now() - started }));
}).end();
