import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { Test } from "tap";
import { type Answered, ask } from "../support/api.ts";
import type { Disk } from "../support/disk.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

const CHECKPOINTS = { MAPLEDGER_CHECKPOINT_SECONDS: "3600" };
const KEYS = 40;

/** `run`: the words of a command that turns into the service. */
export const start = (disk: Pick<Disk, "environment">, run: readonly string[] = []): Promise<ServiceProcess> =>
  startService({ ...disk.environment, ...CHECKPOINTS }, [], run);
const hex = (number: number, bytes: number): string =>
  number
    .toString(16)
    .padStart(2, "0")
    .padEnd(2 * bytes, "0");
export const put = ({ url }: ServiceProcess, key: number, value: number): Promise<Answered> =>
  ask(url, "PUT", `/v1/maps/1/elements/${hex(key, 4)}`, { value: hex(value, 64) });

/** A service with map 1 and its elements, which all parts have heard of. */
export async function prepared(disk: Pick<Disk, "environment">, run: readonly string[] = []): Promise<ServiceProcess> {
  const service = await start(disk, run);
  const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 64, max_entries: 1000 };
  await ask(service.url, "POST", "/v1/sessions", {});
  await ask(service.url, "POST", "/v1/sessions/1/maps", map);
  await ask(service.url, "POST", "/v1/sessions/1/fds/3/pin", { pathname: "/sys/fs/bpf/m" });
  await Promise.all(Array.from({ length: KEYS }, (_, key) => put(service, key, key)));
  for (const { path } of Object.values(ASKED)) await until(() => ask(service.url, "GET", path), 200);
  return service;
}

/** What each part is asked for. */
const ASKED = {
  history: { path: "/v1/maps/1/elements/01000000?at=20", whole: { value: hex(1, 64) } },
  index: { path: "/v1/events?map=1&before=20&limit=1", whole: { events: [{ seq: 19 }] } },
  tree: { path: "/checkpoint", whole: {} },
} as const;

async function until(run: () => Promise<Answered>, status: number): Promise<Answered> {
  for (;;) {
    const answered = await run();
    if (answered.status === status) return answered;
    await sleep(100);
  }
}

/** Whether all is there that was written, and all parts serve it. */
export async function isWhole(
  t: Test,
  service: ServiceProcess,
  values: (key: number) => number,
  name: string,
): Promise<void> {
  const { body } = await ask(service.url, "GET", "/v1/maps/1/elements?limit=1000");
  const found = new Map<string, string>(
    body.elements.map(({ key, value }: { key: string; value: string }) => [key, value]),
  );
  const wanted = Array.from({ length: KEYS }, (_, key) => [hex(key, 4), hex(values(key), 64)] as const);
  t.ok(
    found.size === KEYS && wanted.every(([key, value]) => found.get(key) === value),
    `${name}: the elements are there`,
  );
  for (const { path, whole } of Object.values(ASKED))
    t.match((await until(() => ask(service.url, "GET", path), 200)).body ?? {}, whole, `${name}: ${path}`);
  await until(() => ready(service), 200);
  t.same((await healthy(service)).body.degraded, [], `${name}: nothing is degraded`);
}

export const ready = ({ url }: ServiceProcess): Promise<Answered> => ask(url, "GET", "/readyz");

async function healthy(service: ServiceProcess): Promise<Answered> {
  for (;;) {
    const answered = await ready(service);
    if (answered.body.degraded.length === 0) return answered;
    await sleep(100);
  }
}

/** Whether all is damaged in all ways: each takes a start of its own. `npm run faults` does that. */
export const ALL = process.env.ROUNDS !== undefined;

export type Damage = (file: string) => void;
export const cut =
  (share: number): Damage =>
  (file) =>
    truncateSync(file, Math.floor(statSync(file).size * share));
/** Overwritten with bytes that are nothing, from a share of the file on. */
export const garbled =
  (share: number, bytes: number): Damage =>
  (file) => {
    const contents = readFileSync(file);
    const from = Math.floor(contents.length * share);
    contents.fill(0xa5, from, Math.min(from + bytes, contents.length));
    writeFileSync(file, contents);
  };
