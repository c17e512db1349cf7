import { cpSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startService } from "../test/support/service_process.ts";
import { treeIsWhole } from "./history.ts";
import { load } from "./load.ts";
import { HASH_KEYS, hashKey, type MadeLog } from "./log_maker.ts";

/** A service over a long log, for reads of its past. */
export interface PastSubject {
  readonly url: string;
  readonly pid: number;
  readonly events: number;
  /** From the first question about the end of the log until it is answered: events a second that the history takes in. */
  readonly historyRate: number;
  /** Bytes of the history for each event: the most while it is made, merges included, and then. */
  readonly historyBytes: { readonly most: number; readonly made: number };
  stop(): Promise<void>;
}

/** Lookups are recorded, so that it works on a copy of the log. */
export async function startPast({ folder, events }: MadeLog): Promise<PastSubject> {
  const data = `${folder}-past`;
  cpSync(folder, data, { recursive: true });
  for (const derived of ["history", "index"]) rmSync(join(data, derived), { recursive: true, force: true });
  const service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  const started = performance.now();
  let most = 0;
  while ((await fetch(`${service.url}/v1/maps/1?at=${events}`)).status === 503) {
    most = Math.max(most, bytesOf(join(data, "history")));
    await sleep(POLL_MS);
  }
  const historyRate = (events * 1000) / (performance.now() - started);
  const historyBytes = { most: most / events, made: bytesOf(join(data, "history")) / events };
  // The tree and the index come up to the log's end too, so that what follows has the machine to itself.
  await treeIsWhole(service.url);
  while (JSON.parse(await get(`${service.url}/v1/events?caller=nobody&before=${events}`)).prev !== null);
  const stop = async (): Promise<void> => {
    await service.end("SIGTERM");
    rmSync(data, { recursive: true });
  };
  return { url: service.url, pid: service.child.pid as number, events, historyRate, historyBytes, stop };
}

const POLL_MS = 100;

/** A merge may delete a file between the two calls. */
function bytesOf(folder: string): number {
  return readdirSync(folder).reduce(
    (sum, name) => sum + (statSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}

/** Answers a second of lookups all over a map; `asOf`: each as of another event. */
export async function lookups(
  { url, events }: PastSubject,
  connections: number,
  seconds: number,
  asOf: boolean,
): Promise<number> {
  const requests = Array.from({ length: 1000 }, (_, at) => {
    const key = PRESENT[(at * 7919) % PRESENT.length];
    const seq = events - Math.floor((events * (at % 100)) / 200);
    return { method: "GET" as const, path: `/v1/maps/1/elements/${key}${asOf ? `?at=${seq}` : ""}` };
  });
  return (await load({ url, connections, seconds, requests, missing: true })).rate;
}

const PRESENT = Array.from({ length: HASH_KEYS }, (_, at) => hashKey(at).toString("hex"));

/** Elements a second of a whole map, as it was after this part of the log; null: as it is. */
export async function dump({ url, events }: PastSubject, part: number | null): Promise<number> {
  const at = part === null ? "" : `?at=${Math.floor(events * part)}`;
  const started = performance.now();
  const text = await get(`${url}/v1/maps/1/elements${at}`, { accept: "application/x-ndjson" });
  return (text.split("\n").length * 1000) / (performance.now() - started);
}

/** Milliseconds for a page of the history of one element after the other. */
export async function historyPage({ url }: PastSubject, pages: number): Promise<number> {
  const started = performance.now();
  for (let page = 0; page < pages; page++) await get(`${url}/v1/maps/1/elements/${PRESENT[page * 31]}/history`);
  return (performance.now() - started) / pages;
}

async function get(url: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(url, { headers });
  const text = await response.text();
  if (!response.ok) throw new Error(`getting ${url}: ${response.status} ${text}`);
  return text;
}
