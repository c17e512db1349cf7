/**
 * What one export of a large map costs while its reader is slow and others write: memory, the time of PUTs, and whether
 * it shows one moment.
 */

import { type IncomingMessage, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { anonymousMib, MemorySampler } from "./flight.ts";
import { load, postJson } from "./load.ts";
import { fill, HASH, OctetClient, pairs } from "./octets.ts";
import { startBenchService } from "./service.ts";
import type { Figure } from "./targets.ts";

const CONNECTIONS = 16;
/** The reader takes so much a second until the PUTs are over, then as much as it gets. */
const SLOW_BYTES = 1_000_000;
/** What load and PUTs have left behind their answers is done by then. */
const REST_MS = 10_000;
/** The values of PUTs before the export, and beside it: an export that shows the latter is not of its moment. */
const BEFORE = "5e".repeat(64);
const BESIDE = "e5".repeat(64);

interface Read {
  readonly lines: number;
  /** Lines with values of PUTs beside the export. */
  readonly late: number;
}

/** The figures of one round. */
export async function slowExport(seconds: number, elements: number): Promise<readonly Figure[]> {
  const service = await startBenchService("off");
  const client = new OctetClient(service.url);
  const memory = new MemorySampler(service.pid);
  try {
    const { id } = await postJson(`${service.url}/v1/sessions`, { name: "export", ttl_seconds: 86_400 });
    const map = { ...HASH, max_entries: elements };
    const { fd } = await postJson(`${service.url}/v1/sessions/${id}/maps`, map);
    const path = `/v1/sessions/${id}/fds/${fd}`;
    await fill(client, path, elements);
    const put = (value: string) =>
      load({ url: service.url, connections: CONNECTIONS, seconds, requests: puts(path, elements, value) });
    const alone = await put(BEFORE);
    await sleep(REST_MS);
    const rest = anonymousMib(service.pid);
    memory.most = 0;
    let isSlow = true;
    const reading = await begin(`${service.url}${path}/elements`);
    const read = lines(reading, () => isSlow);
    const { rate, p99Ms } = await put(BESIDE);
    const during = memory.most;
    isSlow = false;
    const exported = await read;
    if (exported.lines !== elements) throw new Error(`exporting ${elements} elements: ${exported.lines} lines came`);
    const row = `export of ${elements}, slow reader`;
    return [
      { name: `${row}, RssAnon above rest MiB`, figure: memory.most - rest, target: { most: 100 } },
      { name: `${row}, RssAnon above rest while PUTs run MiB`, figure: during - rest },
      { name: `${row}, RssAnon at rest MiB`, figure: rest },
      { name: `${row}, elements of another moment`, figure: exported.late, target: { most: 0 } },
      { name: `${row}, PUT /s beside it`, figure: rate },
      { name: `${row}, PUT /s alone`, figure: alone.rate },
      { name: `${row}, PUT p99 ms beside it`, figure: p99Ms, target: { most: 50 } },
      { name: `${row}, PUT p99 ms alone`, figure: alone.p99Ms },
    ];
  } finally {
    memory.end();
    client.close();
    await service.stop();
  }
}

/** PUTs to keys all over the map. */
function puts(path: string, elements: number, value: string) {
  const headers = { "content-type": "application/json" };
  return Array.from({ length: 1000 }, (_, at) => {
    const key = pairs((at * 7919 * 13) % elements, 1).toString("hex", 0, 8);
    return { method: "PUT", path: `${path}/elements/${key}`, headers, body: JSON.stringify({ value }) } as const;
  });
}

/** The export has begun when the first bytes of its answer are there. */
function begin(url: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request(url, { headers: { accept: "application/x-ndjson" } }, resolve)
      .on("error", reject)
      .end();
  });
}

/** Reads the export, slowly while it is told to. */
async function lines(response: IncomingMessage, isSlow: () => boolean): Promise<Read> {
  let count = 0;
  let late = 0;
  let rest = "";
  for await (const piece of response as AsyncIterable<Buffer>) {
    const ended = (rest + piece.toString("latin1")).split("\n");
    rest = ended.pop() as string;
    count += ended.length;
    for (const line of ended) if (line.includes(BESIDE)) late++;
    if (isSlow()) await sleep((piece.length / SLOW_BYTES) * 1000);
  }
  return { lines: count, late };
}
