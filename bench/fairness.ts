/**
 * What nine callers wait for their PUTs while a tenth sends as many as he can over 2,000 connections; what the service
 * takes of a core at rest; and what it writes to disk for each PUT and each element of a load.
 */

import { hash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import autocannon from "autocannon";
import { Caller, waitsOf } from "./caller.ts";
import { load, postJson } from "./load.ts";
import { fill, HASH, OctetClient } from "./octets.ts";
import { cpuMs, startBenchService } from "./service.ts";
import type { Figure } from "./targets.ts";

const QUIET = 9;
const PAUSE_MS = 10;
const FLOOD_CONNECTIONS = 2000;
/** All connections of the flood are there by then. */
const FLOOD_WARM_MS = 3000;
const REST_SECONDS = 30;
const MS = 1000;
const LOADED = 1_000_000;

/** The figures of one round. */
export async function fairness(seconds: number): Promise<readonly Figure[]> {
  return [...(await flooded(seconds)), ...(await written(seconds))];
}

async function flooded(seconds: number): Promise<readonly Figure[]> {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-bench-"));
  const tokens = Array.from({ length: QUIET + 1 }, (_, at) => `caller-${at}-`.padEnd(43, "x"));
  const file = join(folder, "tokens");
  const lines = tokens.map((token, at) => `caller${at}:${hash("sha256", token, "hex")}:read,write`);
  writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o600 });
  const service = await startBenchService("off", { MAPLEDGER_AUTH: "on", MAPLEDGER_TOKENS: file });
  const callers = await Promise.all(tokens.map((token) => Caller.prepare(service.url, token, PAUSE_MS)));
  const [flooder, ...quiet] = callers as [Caller, ...Caller[]];
  const all = async () => waitsOf((await Promise.all(quiet.map((one) => one.timesFor(seconds)))).flat());
  try {
    await all();
    const alone = await all();
    const flood = autocannon({
      url: flooder.element,
      method: "PUT",
      headers: { authorization: `Bearer ${tokens[0]}`, "content-type": "application/json" },
      body: JSON.stringify({ value: "2b00000000000000" }),
      connections: FLOOD_CONNECTIONS,
      duration: FLOOD_WARM_MS / MS + seconds,
      workers: 1,
    });
    await sleep(FLOOD_WARM_MS);
    const beside = await all();
    const { requests, non2xx } = await flood;
    return [
      { name: "nine callers, PUT p99 ms alone", figure: alone.p99 },
      { name: "nine callers, PUT p99 ms beside a flood", figure: beside.p99 },
      { name: "nine callers, PUT most ms beside a flood", figure: beside.most },
      { name: "nine callers, PUT p99 beside a flood, of alone", figure: beside.p99 / alone.p99, target: { most: 5 } },
      { name: "the flood, PUT /s", figure: requests.average },
      { name: "the flood, answers that were no success", figure: non2xx },
    ];
  } finally {
    for (const one of callers) one.close();
    await service.stop();
    rmSync(folder, { recursive: true });
  }
}

async function written(seconds: number): Promise<readonly Figure[]> {
  const service = await startBenchService("off");
  const client = new OctetClient(service.url);
  try {
    const { id } = await postJson(`${service.url}/v1/sessions`, { name: "written", ttl_seconds: 86_400 });
    const map = { ...HASH, max_entries: LOADED };
    const { fd } = await postJson(`${service.url}/v1/sessions/${id}/maps`, map);
    const path = `/v1/sessions/${id}/fds/${fd}`;
    const each = async (work: () => Promise<number>): Promise<number> => {
      const before = writtenBytes(service.pid);
      const count = await work();
      await sleep(REST_SECONDS * MS);
      return (writtenBytes(service.pid) - before) / count;
    };
    const anElement = await each(async () => {
      await fill(client, path, LOADED);
      return LOADED;
    });
    const put = {
      method: "PUT",
      path: `${path}/elements/0000000000000000`,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ value: "5e".repeat(64) }),
    } as const;
    const aPut = await each(async () => {
      const { rate } = await load({ url: service.url, connections: 64, seconds, requests: [put] });
      return rate * seconds;
    });
    const cpu = cpuMs(service.pid);
    await sleep(REST_SECONDS * MS);
    const share = (cpuMs(service.pid) - cpu) / (REST_SECONDS * MS);
    return [
      { name: "bytes to disk a PUT, 64 connections", figure: aPut },
      { name: "bytes to disk an element of a load", figure: anElement },
      { name: "CPU at rest, % of a core", figure: 100 * share, target: { most: 1 } },
    ];
  } finally {
    client.close();
    await service.stop();
  }
}

function writtenBytes(pid: number): number {
  const [, bytes] = /^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1")) ?? [];
  return Number(bytes);
}
