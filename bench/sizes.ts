/**
 * What many sessions and many maps take while nobody uses them: memory, the time of a start, and of the requests that
 * tell of all of them. `docs/limits.md` has the figures.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ServiceProcess, startService } from "../test/support/service_process.ts";
import { anonymousMib } from "./flight.ts";
import { postJson } from "./load.ts";
import type { Figure } from "./targets.ts";

const CONNECTIONS = 32;
const MIB = 1024 * 1024;
const REST_MS = 10_000;
const MS = 1000;
/** A session's descriptors are limited. */
const MAPS_A_SESSION = 1000;
const MAP = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 64, map_flags: 1 };
/** No quota keeps one caller from having them all. */
const NO_QUOTAS = {
  MAPLEDGER_CALLER_SESSIONS_MAX: "0",
  MAPLEDGER_CALLER_MAPS_MAX: "0",
  MAPLEDGER_CALLER_DESCRIPTORS_MAX: "0",
  MAPLEDGER_CALLER_BYTES_MAX: "0",
  MAPLEDGER_CALLER_KERNEL_BYTES_MAX: "0",
};
const TTL = { ttl_seconds: 604_800 };

/** The figures of so many sessions, and of so many maps, each in a service of its own. */
export async function sizes(count: number): Promise<readonly Figure[]> {
  const sessions = await measure("sessions", count, async (_url, send) => {
    await send(count, () => ["POST", "/v1/sessions", { name: "bench", ...TTL }]);
    return "/v1/sessions?limit=100";
  });
  const maps = await measure("maps", count, async (url, send) => {
    const ids: number[] = [];
    for (let at = 0; at < count; at += MAPS_A_SESSION)
      ids.push((await postJson(`${url}/v1/sessions`, { name: "bench", ...TTL })).id as number);
    await send(count, (at) => ["POST", `/v1/sessions/${ids[Math.floor(at / MAPS_A_SESSION)]}/maps`, MAP]);
    return "/v1/maps?limit=1000";
  });
  return [...sessions, ...maps];
}

type Sent = readonly [method: string, path: string, body: object];
type Send = (count: number, one: (at: number) => Sent) => Promise<void>;

/** `make` makes them, and answers the URL of a page of them. */
async function measure(
  what: string,
  count: number,
  make: (url: string, send: Send) => Promise<string>,
): Promise<readonly Figure[]> {
  const data = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const start = (): Promise<ServiceProcess> =>
    startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", ...NO_QUOTAS });
  const row = `${count} ${what}`;
  let service = await start();
  try {
    await sleep(REST_MS);
    const before = anonymousMib(service.child.pid as number);
    const each = (mib: number): number => ((mib - before) * MIB) / count;
    const began = performance.now();
    const page = await make(service.url, (all, one) => sendAll(service.url, all, one));
    const rate = (count / (performance.now() - began)) * MS;
    await sleep(REST_MS);
    const made = each(anonymousMib(service.child.pid as number));
    const pageMs = await milliseconds(`${service.url}${page}`);
    const metricsMs = await milliseconds(`${service.url}/metrics`);
    await service.end("SIGTERM");
    const started = performance.now();
    service = await start();
    const startMs = performance.now() - started;
    await sleep(REST_MS);
    return [
      { name: `${row}, made a second`, figure: rate },
      { name: `${row}, RssAnon bytes each`, figure: made, target: { most: 300 } },
      {
        name: `${row}, RssAnon bytes each after a start`,
        figure: each(anonymousMib(service.child.pid as number)),
        target: { most: 300 },
      },
      { name: `${row}, start ms`, figure: startMs, target: { most: 5000 } },
      { name: `${row}, a page ms`, figure: pageMs, target: { most: 50 } },
      { name: `${row}, metrics ms`, figure: metricsMs, target: { most: 50 } },
    ];
  } finally {
    await service.end("SIGTERM");
    rmSync(data, { recursive: true });
  }
}

async function milliseconds(url: string): Promise<number> {
  const started = performance.now();
  await (await fetch(url)).arrayBuffer();
  return performance.now() - started;
}

async function sendAll(url: string, count: number, one: (at: number) => Sent): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) await send(url, agent, one(next++));
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, work));
  agent.destroy();
}

function send(url: string, agent: Agent, [method, path, body]: Sent): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const sent = request(`${url}${path}`, { method, agent, headers }, (response) => {
      if (response.statusCode !== 201) reject(new Error(`${method} ${path}: ${response.statusCode}`));
      response.resume().on("end", resolve);
    });
    sent.on("error", reject);
    sent.end(JSON.stringify(body));
  });
}
