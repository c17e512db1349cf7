import { existsSync, globSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import { ask } from "../support/api.ts";
import { Disk, type Rule } from "../support/disk.ts";
import { writeLog } from "../support/write_log.ts";
import { ALL, cut, type Damage, garbled, isWhole, prepared, put, ready, start } from "./parts.ts";

interface Row {
  readonly part: "state" | "history" | "tree";
  readonly rule: Rule;
}

/** While a part's file fails, all else goes on, and it is told; when it does not fail any more, it serves. */
const FAILING: readonly Row[] = [
  ...["history/manifest.json.partial", ".sst"].flatMap((file): Row[] => [
    { part: "history", rule: { op: "write", file, action: "EIO" } },
    { part: "history", rule: { op: "write", file, action: "ENOSPC" } },
    { part: "history", rule: { op: "sync", file, action: "EIO" } },
  ]),
  { part: "tree", rule: { op: "write", file: "tree.sqlite-wal", action: "EIO" } },
  { part: "tree", rule: { op: "write", file: "tree.sqlite-wal", action: "ENOSPC" } },
  { part: "tree", rule: { op: "sync", file: "tree.sqlite-wal", action: "EIO" } },
  { part: "tree", rule: { op: "sync", file: "tree.sqlite-wal", action: "drop" } },
  { part: "state", rule: { op: "write", file: "state/data.mdb", action: "EIO" } },
  { part: "state", rule: { op: "write", file: "state/data.mdb", action: "ENOSPC" } },
];

t.test("a part whose file fails is told of, and serves when that is over; all else goes on meanwhile", async (t) => {
  const disk = new Disk(t);
  const service = await prepared(disk);
  let value = 0;
  for (const { part, rule } of FAILING) {
    const name = `${part}, ${rule.action} at a ${rule.op} of ${rule.file}`;
    const hits = disk.hits.length;
    disk.fail({ ...rule, count: -1 });
    value++;
    t.equal((await put(service, 1, value)).status, 200, name);
    if (part !== "state") {
      const refused = await ask(service.url, "GET", newestOf(part));
      // SQLite knows of room at writes alone.
      const status = rule.action === "ENOSPC" && rule.op === "write" ? 507 : 503;
      t.equal(refused.status, status, `${name}: ${refused.text}`);
    }
    while ((await ready(service)).body.degraded.length === 0) await sleep(50);
    t.match((await ready(service)).body.degraded, [{ part, state: "failed" }], name);
    const { text } = await ask(service.url, "GET", "/metrics");
    t.match(text, `mapledger_part_failed{part="${part}"} 1`, name);
    for (const path of ["/v1/maps/1/elements/01000000", "/v1/events/10", "/v1/events?map=1&limit=3", "/v1/maps"])
      t.equal((await ask(service.url, "GET", path)).status, 200, `${name}: ${path}`);
    t.ok(disk.hits.length > hits, `${name}: it was hit`);
    disk.fail();
    await isWhole(t, service, (key) => (key === 1 ? value : key), name);
    if (part === "state") continue;
    // A single time nobody need notice.
    value++;
    await put(service, 1, value);
    disk.fail(rule);
    t.equal((await ask(service.url, "GET", newestOf(part))).status, 200, `${name}, once`);
    disk.fail();
  }
  t.equal(await service.end("SIGTERM"), 0);
  const again = await start(disk);
  await isWhole(t, again, (key) => (key === 1 ? value : key), "after a restart");
  await again.end("SIGTERM");
});

/** What a part can answer only when it has come to the log's end. */
function newestOf(part: Row["part"]): string {
  if (part === "history") return `/v1/maps/1/elements/01000000/history?limit=1`;
  return "/checkpoint";
}

t.test("an index that cannot be stored or opened is told of, and events are found meanwhile", async (t) => {
  const disk = new Disk(t);
  await writeLog(disk.data, 900);
  const asked = "/v1/events?map=1&cmd=BPF_MAP_UPDATE_BATCH&before=5000&limit=3";
  for (const rule of [
    { op: "open", file: "index/manifest.json", action: "EIO" },
    { op: "write", file: "index/00000001.sst", action: "EIO" },
    { op: "write", file: "index/00000001.sst", action: "ENOSPC" },
    { op: "sync", file: "index/00000001.sst", action: "EIO" },
    { op: "write", file: "index/manifest.json.partial", action: "EIO" },
  ] as const) {
    const name = `${rule.action} at each ${rule.op} of ${rule.file}`;
    rmSync(join(disk.data, "index"), { recursive: true, force: true });
    disk.fail({ ...rule, count: -1 });
    const service = await start(disk);
    // The log has rested then, and the index is stored.
    while ((await ready(service)).body.degraded.length === 0) await sleep(50);
    t.match((await ready(service)).body.degraded, [{ part: "index", state: "failed" }], name);
    const found = await ask(service.url, "GET", asked);
    t.match(found, { status: 200, body: { events: [{}, {}, {}] } }, name);
    disk.fail();
    while ((await ready(service)).body.degraded.length > 0) await sleep(50);
    t.same((await ask(service.url, "GET", asked)).body.events, found.body.events, name);
    t.equal(await service.end("SIGTERM"), 0);
  }
});

t.test("an index that is damaged is made again", async (t) => {
  const disk = new Disk(t);
  await writeLog(disk.data, 900);
  const asked = "/v1/events?map=1&cmd=BPF_MAP_UPDATE_BATCH&before=5000&limit=3";
  const isStored = async (): Promise<void> => {
    while (!existsSync(join(disk.data, "index", "manifest.json"))) await sleep(50);
  };
  let service = await start(disk);
  await isStored();
  const { events } = (await ask(service.url, "GET", asked)).body;
  t.equal(events.length, 3);
  for (const [file, damage] of [
    ["manifest.json", cut(0.5)],
    ["manifest.json", garbled(0, 64)],
    ["00000001.sst", cut(0.5)],
    ["00000001.sst", garbled(0, 1_000_000)],
    ["00000001.sst", rmSync],
  ] as const) {
    await service.end("SIGKILL");
    damage(join(disk.data, "index", file));
    service = await start(disk);
    t.match(await ask(service.url, "GET", asked), { status: 200, body: { events } }, file);
    await isStored();
    while ((await ready(service)).body.degraded.length > 0) await sleep(50);
  }
  await service.end("SIGTERM");
});

const DAMAGES: readonly (readonly [file: string, name: string, damage: Damage])[] = [
  "state/data.mdb",
  "history/manifest.json",
  "history/*.sst",
].flatMap(
  (file) =>
    [
      [file, "cut in half", cut(0.5)],
      [file, "empty", cut(0)],
      [file, "its beginning garbled", garbled(0, 8192)],
      [file, "its middle garbled", garbled(0.5, 16_384)],
      [file, "its last page gone", cut(0.99)],
    ] as const,
);

/**
 * Of each file at once; a process that was killed leaves no other files than one that has stopped, but for its mark. That
 * every damage is found is for test/lmdb/ and test/runs/ to show: `npm test` has a part of them here.
 */
const ROUNDS = ALL
  ? ([
      ["SIGTERM", [...new Set(DAMAGES.map(([, name]) => name))]],
      ["SIGKILL", ["cut in half", "its middle garbled"]],
    ] as const)
  : ([
      ["SIGTERM", ["empty", "its beginning garbled"]],
      ["SIGKILL", ["cut in half", "its middle garbled"]],
    ] as const);

for (const [signal, names] of ROUNDS)
  t.test(`what is damaged after a ${signal} is made again`, async (t) => {
    const disk = new Disk(t);
    let service = await prepared(disk);
    for (const name of names) {
      const damages = DAMAGES.filter((one) => one[1] === name);
      await service.end(signal);
      for (const [file, , damage] of damages) for (const each of globSync(join(disk.data, file))) damage(each);
      service = await start(disk);
      await isWhole(t, service, (key) => key, damages.map(([file, name]) => `${file}: ${name}`).join("; "));
    }
    await service.end("SIGTERM");
  });

t.test(
  "what SQLite and LMDB keep beside their files, as a kill leaves it, is made again where it is damaged",
  async (t) => {
    const disk = new Disk(t);
    let service = await prepared(disk);
    const databases = ["events.sqlite", "tree.sqlite"];
    const beside = [...databases.map((name) => `${name}-shm`), "state/data.mdb-lock"];
    for (const [name, damage] of [
      ["cut", cut(0.5)],
      ["empty", cut(0)],
      ["garbled", garbled(0, 65_536)],
    ] as const) {
      await service.end("SIGKILL");
      for (const file of beside) damage(join(disk.data, file));
      service = await start(disk);
      await isWhole(t, service, (key) => key, name);
    }
    await service.end("SIGKILL");
    writeFileSync(join(disk.data, "lock.sqlite"), "no database ".repeat(1000));
    await t.rejects(start(disk), /ended with 1: .*written to .*lock.sqlite: remove it/s);
    rmSync(join(disk.data, "lock.sqlite"));
    service = await start(disk);
    await isWhole(t, service, (key) => key, "without a lock");
    await service.end("SIGTERM");
  },
);
