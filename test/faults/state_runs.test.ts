import { globSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { ask } from "../support/api.ts";
import { Disk, type Rule } from "../support/disk.ts";
import type { ServiceProcess } from "../support/service_process.ts";
import { ALL, cut, type Damage, garbled, isWhole, prepared, ready, start } from "./parts.ts";

/** More than the state writer gives to LMDB at once, so that they are a run. */
const ELEMENTS = 10_000;
const RUNS = "state/runs";

const word = (number: number): string => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes.toString("hex");
};

/** Map 2, with `value` in every element. */
class LargeMap {
  readonly service: ServiceProcess;
  value: number;

  constructor(service: ServiceProcess, value = 0) {
    this.service = service;
    this.value = value;
  }

  async create(): Promise<this> {
    const map = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: ELEMENTS };
    const { body } = await ask(this.service.url, "POST", "/v1/sessions/1/maps", map);
    await ask(this.service.url, "POST", `/v1/sessions/1/fds/${body.fd}/pin`, { pathname: "/sys/fs/bpf/large" });
    return this;
  }

  async fill(value: number): Promise<void> {
    this.value = value;
    const elements = Array.from({ length: ELEMENTS }, (_, key) => ({ key: word(key), value: word(value) }));
    const { status, text } = await ask(this.service.url, "POST", "/v1/maps/2/batch/update", { elements });
    if (status !== 200) throw new Error(text);
  }

  /** Compares all elements, and what the parts serve of map 1. */
  async isWhole(t: Test, name: string): Promise<void> {
    const found = new Map<string, string>();
    for (let path = "/v1/maps/2/elements?limit=1000"; path !== ""; ) {
      const { body } = await ask(this.service.url, "GET", path);
      for (const { key, value } of body.elements) found.set(key, value);
      path = body.next === null || body.next === undefined ? "" : `/v1/maps/2/elements?limit=1000&after=${body.next}`;
    }
    t.equal(found.size, ELEMENTS, `${name}: all elements are there`);
    t.equal([...found.values()].filter((value) => value !== word(this.value)).length, 0, `${name}: their values`);
    await isWhole(t, this.service, (key) => key, name);
  }
}

async function degraded({ url }: ServiceProcess): Promise<void> {
  while ((await ready({ url } as ServiceProcess)).body.degraded.length === 0) await sleep(50);
}

/** Waits until LMDB has all changes of map 2, so that its next write is of later ones. */
async function settled({ url }: ServiceProcess, disk: Disk): Promise<void> {
  const { body } = await ask(url, "GET", "/v1/events?map=2&limit=1000");
  const changes = body.events.filter(({ cmd }: { cmd: string }) => /CREATE|PIN|UPDATE/.test(cmd));
  for (let state = 0; !(state >= changes.at(-1).seq) || runs(disk).length > 0; ) {
    await sleep(50);
    const { text } = await ask(url, "GET", "/metrics");
    state = Number(text.match(/^mapledger_state_seq (\d+)$/m)?.[1]);
  }
}

const runs = (disk: Disk): readonly string[] => globSync(join(disk.data, RUNS, "*.sst"));

t.test("runs that cannot be written are told of, and written when they can be", async (t) => {
  const disk = new Disk(t);
  const service = await prepared(disk);
  const map = await new LargeMap(service).create();
  await map.fill(1);
  const file = `${RUNS}/manifest.json.partial`;
  let value = 1;
  for (const rule of [
    { op: "write", file, action: "ENOSPC" },
    { op: "open", file, action: "EMFILE" },
  ] satisfies Rule[]) {
    const name = `${rule.action} at a ${rule.op} of ${rule.file}`;
    const hits = disk.hits.length;
    disk.fail({ ...rule, count: -1 });
    await map.fill(++value);
    await degraded(service);
    t.match((await ready(service)).body.degraded, [{ part: "state", state: "failed" }], name);
    t.match(await ask(service.url, "GET", `/v1/maps/2/elements/${word(7)}`), { body: { value: word(value) } }, name);
    t.ok(disk.hits.length > hits, `${name}: it was hit`);
    disk.fail();
    await map.isWhole(t, name);
  }
  t.equal(await service.end("SIGTERM"), 0);
  const again = await start(disk);
  await new LargeMap(again, value).isWhole(t, "after a restart");
  await again.end("SIGTERM");
});

t.test("a fold that fails leaves runs that are read, and is tried again", async (t) => {
  const disk = new Disk(t);
  const service = await prepared(disk);
  const map = await new LargeMap(service).create();
  disk.fail({ op: "write", file: "state/data.mdb", action: "EIO", count: -1 });
  await map.fill(1);
  while (disk.hits.length === 0 || runs(disk).length === 0) await sleep(50);
  await map.isWhole(t, "while it fails");
  disk.fail();
  while (runs(disk).length > 0) await sleep(50);
  await map.isWhole(t, "when it was tried again");
  // Once, in the middle of one.
  const hits = disk.hits.length;
  disk.fail({ op: "write", file: "state/data.mdb", action: "EIO", skip: 3 });
  await map.fill(2);
  while (disk.hits.length === hits || runs(disk).length > 0) await sleep(50);
  await map.isWhole(t, "after a fold that failed half way");
  t.equal(await service.end("SIGTERM"), 0);
});

t.test("a process that dies during a fold loses nothing", async (t) => {
  const disk = new Disk(t);
  let service = await prepared(disk);
  await new LargeMap(service).create();
  for (const skip of [0, 3]) {
    const { child } = service;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    await settled(service, disk);
    disk.fail({ op: "write", file: "state/data.mdb", action: "kill", skip });
    const map = new LargeMap(service);
    // It may die before it has answered, but not before the log has the event.
    await map.fill(skip + 1).catch(() => {});
    const isDead = await Promise.race([exited.then(() => true), sleep(20_000).then(() => false)]);
    if (!isDead) child.kill("SIGKILL");
    await exited;
    t.ok(isDead, `it died at write ${skip}`);
    disk.fail();
    service = await start(disk);
    await new LargeMap(service, skip + 1).isWhole(t, `killed at write ${skip}`);
  }
  t.equal(await service.end("SIGTERM"), 0);
});

const DAMAGES: readonly (readonly [name: string, files: string, damage: Damage])[] = [
  ["runs are cut", "*.sst", cut(0.5)],
  ["runs are gone", "*.sst", rmSync],
  ["runs are garbled", "*.sst", garbled(0, 65_536)],
  ["the manifest is garbled", "manifest.json", garbled(0.5, 64)],
  ["the manifest is gone", "manifest.json", rmSync],
];

/**
 * A process that was killed leaves no other files than one that has stopped, but for its mark. That every damage is found
 * is for test/state/layers.test.ts to show.
 */
const ROUNDS = [
  ["SIGTERM", ALL ? DAMAGES : DAMAGES.slice(2, 4)],
  ["SIGKILL", DAMAGES.slice(0, 1)],
] as const;

for (const [signal, damages] of ROUNDS)
  t.test(`runs that are damaged after a ${signal} are made again with the state`, async (t) => {
    const disk = new Disk(t);
    let service = await prepared(disk);
    await new LargeMap(service).create();
    let value = 0;
    for (const [name, files, damage] of damages) {
      // Nothing is folded, so that runs are left.
      disk.fail({ op: "write", file: "state/data.mdb", action: "EIO", count: -1 });
      await new LargeMap(service).fill(++value);
      while (runs(disk).length === 0) await sleep(50);
      await service.end(signal);
      t.ok(runs(disk).length > 0, `${name}: there are runs`);
      for (const each of globSync(join(disk.data, RUNS, files))) damage(each);
      disk.fail();
      service = await start(disk);
      await new LargeMap(service, value).isWhole(t, `${name} after a ${signal}`);
    }
    t.equal(await service.end("SIGTERM"), 0);
  });
