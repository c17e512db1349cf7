/** What batches of 10,000 pairs reach: as JSON, as octets, mirrored, and of keys that are new. */

import { unfitForKernel } from "../test/support/bpffs.ts";
import { type CaughtUp, catchUp, catchUpFigures } from "./catch_up.ts";
import { postJson } from "./load.ts";
import { HASH, OCTETS, OctetClient, pairs, pairsJson } from "./octets.ts";
import { cpuMs, startBenchService } from "./service.ts";
import type { Figure } from "./targets.ts";

const KEYS = 100_000;
const PAIRS = 10_000;
/** While one request is decided, the next is received. */
const CONNECTIONS = 2;
const US = 1000;
const REST_MS = 2000;

const KINDS = [
  { name: "JSON", mirror: "off", type: "application/json", body: pairsJson, least: 300_000 },
  { name: "octets", mirror: "off", type: OCTETS, body: pairs, least: 500_000 },
  { name: "octets, mirrored", mirror: "required", type: OCTETS, body: pairs, least: 400_000 },
] as const;

/** One round: each kind on a service of its own. `fresh`: the number of new keys. */
export async function batches(seconds: number, fresh: number): Promise<readonly Figure[]> {
  const figures: Figure[] = [];
  for (const { name, mirror, type, body, least } of KINDS) {
    if (mirror === "required" && unfitForKernel() !== null) continue;
    const bodies = Array.from({ length: KEYS / PAIRS }, (_, at) => body(at * PAIRS, PAIRS));
    const until = (elapsedMs: number): boolean => elapsedMs >= seconds * 1000;
    const one = await measure(mirror, KEYS, type, (at) => bodies[at % bodies.length] as Buffer, until);
    const row = `batch of ${PAIRS} pairs on ${KEYS} keys, ${name}`;
    figures.push({ name: `${row}, pairs/s`, figure: one.rate, target: { least } });
    figures.push({ name: `${row}, CPU us a pair`, figure: one.cpuUs }, ...catchUpFigures(row, one.behind));
  }
  const isOver = (_: number, sent: number): boolean => sent * PAIRS >= fresh;
  const load = await measure("off", fresh, OCTETS, (at) => pairs(at * PAIRS, PAIRS), isOver);
  figures.push({ name: `${fresh} new keys as octets, pairs/s`, figure: load.rate, target: { least: 150_000 } });
  figures.push({ name: `${fresh} new keys as octets, CPU us a pair`, figure: load.cpuUs });
  figures.push(...catchUpFigures(`${fresh} new keys as octets`, load.behind));
  return figures;
}

interface Measured {
  readonly rate: number;
  /** Of all threads of the service, until what it does behind its answers is done. */
  readonly cpuUs: number;
  readonly behind: CaughtUp;
}

async function measure(
  mirror: "off" | "required",
  maxEntries: number,
  type: string,
  body: (at: number) => Buffer,
  isOver: (elapsedMs: number, sent: number) => boolean,
): Promise<Measured> {
  const service = await startBenchService(mirror);
  const client = new OctetClient(service.url);
  try {
    const { id } = await postJson(`${service.url}/v1/sessions`, { name: "batches", ttl_seconds: 86_400 });
    const map = { ...HASH, max_entries: maxEntries };
    const { fd } = await postJson(`${service.url}/v1/sessions/${id}/maps`, map);
    const path = `/v1/sessions/${id}/fds/${fd}/batch/update`;
    // All keys are there, and the code is compiled. Of new keys the first are written twice.
    for (let at = 0; at < KEYS / PAIRS; at++) await client.send("POST", path, body(at), type);
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    const cpuBefore = cpuMs(service.pid);
    const started = performance.now();
    let sent = 0;
    const connection = async (): Promise<void> => {
      while (!isOver(performance.now() - started, sent)) await client.send("POST", path, body(sent++), type);
    };
    await Promise.all(Array.from({ length: CONNECTIONS }, connection));
    const elapsedMs = performance.now() - started;
    const behind = await catchUp(service.url);
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    const written = sent * PAIRS;
    return { rate: (written / elapsedMs) * 1000, cpuUs: ((cpuMs(service.pid) - cpuBefore) / written) * US, behind };
  } finally {
    client.close();
    await service.stop();
  }
}
