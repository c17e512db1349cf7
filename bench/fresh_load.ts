/**
 * What one caller waits for his PUTs, and what memory the service takes, while another loads new elements in batches of
 * 10,000 as JSON. Every 100 ms somebody reads a page of the elements and looks up a prefix in an LPM trie.
 */

import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { waitsOf } from "./caller.ts";
import { type CaughtUp, catchUp, catchUpFigures } from "./catch_up.ts";
import { anonymousMib, MemorySampler } from "./flight.ts";
import { postJson } from "./load.ts";
import { HASH, OctetClient, pairsJson } from "./octets.ts";
import { startBenchService } from "./service.ts";
import type { Figure } from "./targets.ts";

const PAIRS = 10_000;
/** The load's speed is also told of its last part. */
const LAST = 0.2;
const PREFIXES = 1000;
const READ_MS = 100;
const REST_MS = 10_000;
const JSON_TYPE = "application/json";

/** The figures of one round: the load alone, and beside PUTs and reads, each on a service of its own. */
export async function freshLoad(elements: number): Promise<readonly Figure[]> {
  const alone = await measure(elements, false);
  const beside = await measure(elements, true);
  const waits = waitsOf(beside.waits);
  const row = `load of ${elements} new elements`;
  return [
    { name: `${row}, PUT p99 ms beside it`, figure: waits.p99, target: { most: 50 } },
    { name: `${row}, PUT p99.9 ms beside it`, figure: waits.p999, target: { most: 250 } },
    { name: `${row}, PUT most ms beside it`, figure: waits.most },
    { name: `${row}, PUTs and reads refused`, figure: beside.refused, target: { most: 0 } },
    { name: `${row}, elements/s in the last fifth`, figure: beside.lastRate, target: { least: 100_000 } },
    { name: `${row}, elements/s, of alone`, figure: beside.rate / alone.rate, target: { least: 0.8 } },
    { name: `${row} alone, elements/s`, figure: alone.rate },
    { name: `${row} alone, elements/s in the last fifth`, figure: alone.lastRate },
    { name: `${row}, RssAnon at most MiB`, figure: Math.max(alone.most, beside.most), target: { most: 700 } },
    { name: `${row}, RssAnon 10 s after it MiB`, figure: Math.max(alone.rest, beside.rest), target: { most: 300 } },
    ...catchUpFigures(row, beside.behind),
    { name: `${row}, state bytes an element`, figure: beside.stateBytes / elements, target: { most: 150 } },
  ];
}

interface Measured {
  readonly rate: number;
  readonly lastRate: number;
  /** Of PUTs, in ms. */
  readonly waits: readonly number[];
  readonly refused: number;
  /** RssAnon. */
  readonly most: number;
  readonly rest: number;
  readonly stateBytes: number;
  readonly behind: CaughtUp;
}

async function measure(elements: number, isBeside: boolean): Promise<Measured> {
  const service = await startBenchService("off");
  const client = new OctetClient(service.url);
  const memory = new MemorySampler(service.pid);
  const beside = { isOver: false, waits: [] as number[], refused: 0 };
  try {
    const { id } = await postJson(`${service.url}/v1/sessions`, { name: "load", ttl_seconds: 86_400 });
    const open = async (map: object): Promise<string> =>
      `/v1/sessions/${id}/fds/${(await postJson(`${service.url}/v1/sessions/${id}/maps`, map)).fd}`;
    const path = await open({ ...HASH, max_entries: elements });
    const other = await open({ ...HASH, max_entries: 1 });
    const lpm = await open({
      map_type: "BPF_MAP_TYPE_LPM_TRIE",
      key_size: 8,
      value_size: 8,
      max_entries: PREFIXES,
      map_flags: ["BPF_F_NO_PREALLOC"],
    });
    await postJson(`${service.url}${lpm}/batch/update`, {
      elements: Array.from({ length: PREFIXES }, (_, at) => prefix(at)),
    });
    // Made before anything is measured: this thread sends the PUTs, too, and would send none meanwhile.
    const bodies = Array.from({ length: elements / PAIRS }, (_, at) => pairsJson(at * PAIRS, PAIRS));
    const lastFrom = Math.floor(bodies.length * (1 - LAST));
    const workers = isBeside ? [puts(client, other, beside), reads(client, path, lpm, beside)] : [];
    const whole = await load(client, path, bodies.slice(0, lastFrom));
    const last = await load(client, path, bodies.slice(lastFrom));
    beside.isOver = true;
    await Promise.all(workers);
    const behind = await catchUp(service.url);
    await sleep(REST_MS);
    return {
      rate: (elements / (whole + last)) * 1000,
      lastRate: ((elements * LAST) / last) * 1000,
      waits: beside.waits,
      refused: beside.refused,
      most: memory.most,
      rest: anonymousMib(service.pid),
      stateBytes: bytesIn(join(service.data, "state")),
      behind,
    };
  } finally {
    memory.end();
    client.close();
    await service.stop();
  }
}

/** Loads elements over one connection. Answers the milliseconds that the requests took. */
async function load(client: OctetClient, path: string, bodies: readonly Buffer[]): Promise<number> {
  const started = performance.now();
  for (const body of bodies) await client.send("POST", `${path}/batch/update`, body, JSON_TYPE);
  return performance.now() - started;
}

interface Beside {
  isOver: boolean;
  readonly waits: number[];
  refused: number;
}

async function puts(client: OctetClient, path: string, beside: Beside): Promise<void> {
  const body = Buffer.from(JSON.stringify({ value: "5e".repeat(64) }));
  while (!beside.isOver) {
    const started = performance.now();
    await client.send("PUT", `${path}/elements/0000000000000001`, body, JSON_TYPE).catch(() => beside.refused++);
    beside.waits.push(performance.now() - started);
  }
}

async function reads(client: OctetClient, path: string, lpm: string, beside: Beside): Promise<void> {
  while (!beside.isOver) {
    const page = client.send("GET", `${path}/elements?limit=100`, NOTHING, JSON_TYPE);
    const lookup = client.send("GET", `${lpm}/elements/${prefix(7).key}`, NOTHING, JSON_TYPE);
    await Promise.all([page, lookup].map((asked) => asked.catch(() => beside.refused++)));
    await sleep(READ_MS);
  }
}

const NOTHING = Buffer.alloc(0);

/** A prefix of 32 bits, with data of its own. */
function prefix(number: number): { readonly key: string; readonly value: string } {
  const key = Buffer.alloc(8);
  key.writeUInt32LE(32, 0);
  key.writeUInt32BE(number * 7919, 4);
  return { key: key.toString("hex"), value: "01".repeat(8) };
}

function bytesIn(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);
}
