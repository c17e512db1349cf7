import { cpSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { ask } from "../support/api.ts";
import { mapledger } from "../support/cli.ts";
import { Disk } from "../support/disk.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";
import { type Line, Watch } from "../support/watch_lines.ts";

const HASH = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 100 };
const key = (number: number): string => number.toString(16).padStart(8, "0");

function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-positions-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const serve = (data: string): Promise<ServiceProcess> =>
  startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", MAPLEDGER_BOOKMARK: "1" });

async function put({ url }: ServiceProcess, map: number, ...numbers: number[]): Promise<void> {
  for (const number of numbers) {
    const { status, text } = await ask(url, "PUT", `/v1/maps/${map}/elements/${key(number)}`, { value: key(number) });
    if (status !== 200) throw new Error(text);
  }
}

/** Two maps of a session's, with an element each. */
async function furnish(service: ServiceProcess): Promise<void> {
  await ask(service.url, "POST", "/v1/sessions", { name: "positions" });
  for (const map of [1, 2]) {
    await ask(service.url, "POST", "/v1/sessions/1/maps", { ...HASH, map_name: `m${map}` });
    await put(service, map, map);
  }
}

/** The position of a line of a watch. */
async function position(t: Test, { url }: ServiceProcess, path: string, event: string): Promise<string> {
  const watch = await Watch.open(t, `${url}/v1/maps/${path}`);
  const line = await watch.to(event);
  watch.cut();
  return line.position;
}

async function resumed(t: Test, { url }: ServiceProcess, map: string, after: string): Promise<Line> {
  const watch = await Watch.open(t, `${url}/v1/maps/${map}/watch?after=${after}`);
  const line = await watch.line();
  watch.cut();
  return line;
}

const GONE = (reason: string) => ({ status: 410, type: "urn:mapledger:problem:foreign-position", reason });

t.test("a reader is told of a copy that has gone on otherwise, and of a restored backup", async (t) => {
  const folder = folderOf(t);
  const [data, copy, backup, restored] = ["data", "copy", "backup", "restored"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
    string,
  ];
  let service = await serve(data);
  await furnish(service);
  const [common, commonEvents] = [
    await position(t, service, "name:m1/watch", "synced"),
    (await ask(service.url, "GET", "/v1/events")).body.position,
  ];
  await service.end("SIGTERM");
  cpSync(data, copy, { recursive: true });
  const made = await mapledger("backup", backup, "--data", data);
  t.equal(made.code, 0, made.stderr);

  service = await serve(data);
  await put(service, 1, 3, 4);
  const later = await position(t, service, `name:m1/watch?after=${common}`, "put");
  const { events } = (await ask(service.url, "GET", `/v1/events?after=${commonEvents}`)).body;
  const laterEvents = events.at(-1).position;
  await service.end("SIGTERM");

  service = await serve(copy);
  await put(service, 1, 5, 6, 7);
  t.match(await resumed(t, service, "name:m1", common), { event: "bookmark", position: common });
  t.match(await resumed(t, service, "name:m1", later), { event: "begin", anew: { reason: "other-event" } });
  for (const source of [copy, service.url]) {
    const [same, other] = [
      await mapledger("replay", source, "--after", commonEvents),
      await mapledger("replay", source, "--after", laterEvents),
    ];
    t.match(same.stdout, /"cmd":"BPF_MAP_UPDATE_ELEM"/, source);
    t.match(other, { stdout: "", stderr: /event \d+ (is not|differs from) the position's/ }, source);
    t.not(other.code, 0);
  }
  t.equal((await ask(service.url, "GET", `/v1/events?after=${commonEvents}`)).status, 200, "what both have in front");
  for (const path of [`?after=${laterEvents}`, `?before=${laterEvents}`, `/stream?after=${laterEvents}`])
    t.match((await ask(service.url, "GET", `/v1/events${path}`)).body, GONE("other-event"), path);
  await service.end("SIGTERM");

  const putBack = await mapledger("restore-backup", backup, "--data", restored);
  t.equal(putBack.code, 0, putBack.stderr);
  service = await serve(restored);
  for (const one of [common, later])
    t.match(await resumed(t, service, "1", one), { event: "begin", anew: { reason: "other-life" } });
  for (const one of [commonEvents, laterEvents])
    t.match((await ask(service.url, "GET", `/v1/events?after=${one}`)).body, GONE("other-life"));
  await service.end("SIGTERM");
});

t.test(
  "a watch goes on behind an archive that took nothing of its map; what took something, or nobody knows, begins anew",
  async (t) => {
    const data = join(folderOf(t), "data");
    let service = await serve(data);
    await furnish(service);
    const [quiet, busy] = [
      await position(t, service, "name:m1/watch", "synced"),
      await position(t, service, "name:m2/watch", "synced"),
    ];
    await put(service, 2, 3, 4, 5);
    await ask(service.url, "GET", "/v1/maps/1/elements");
    const { body: page } = await ask(service.url, "GET", "/v1/events");
    const end = page.events.at(-1);
    await ask(service.url, "POST", "/v1/archive", { before: end.seq + 1 });
    for (let job: { state?: string } = {}; job.state !== "done"; await sleep(20)) {
      job = (await ask(service.url, "GET", "/v1/archive")).body.job;
      if (job.state === "failed") throw new Error(JSON.stringify(job));
    }
    await put(service, 1, 6);
    const [archive, away] = [join(data, "archive"), join(data, "..", "away")];
    renameSync(archive, away);
    const goesOn = async (): Promise<void> => {
      const watch = await Watch.open(t, `${service.url}/v1/maps/name:m1/watch?after=${quiet}`);
      t.match(await watch.lines(2), [
        { event: "bookmark", position: quiet },
        { event: "put", key: key(6) },
      ]);
      watch.cut();
      t.match(await resumed(t, service, "name:m2", busy), { event: "begin", anew: { reason: "archived" } });
      t.match((await ask(service.url, "GET", `/v1/events?after=${page.events[0].position}`)).body, {
        oldest_seq: end.seq + 1,
      });
      t.match((await ask(service.url, "GET", `/v1/events?after=${end.position}`)).body.events[0], { cmd: "ARCHIVE" });
    };
    await goesOn();
    await service.end("SIGTERM");
    service = await serve(data);
    await goesOn();
    await service.end("SIGTERM");
    rmSync(join(data, "index"), { recursive: true, force: true });
    service = await serve(data);
    t.match(await resumed(t, service, "name:m1", quiet), { event: "begin", anew: { reason: "archived" } });
    await service.end("SIGTERM");
    renameSync(away, archive);
    service = await serve(data);
    t.match(await resumed(t, service, "name:m2", busy), { event: "bookmark" }, "the archive is at hand");
    await service.end("SIGTERM");
  },
);

t.test("positions are given out and taken while the index or the tree has failed", async (t) => {
  const disk = new Disk(t);
  disk.fail({ op: "open", file: "index/manifest.json", action: "EIO", count: -1 });
  const service = await startService(disk.environment);
  await furnish(service);
  const watched = await position(t, service, "name:m1/watch", "synced");
  const before = (await ask(service.url, "GET", "/v1/events")).body.position;
  const degraded = async (): Promise<string[]> =>
    (await ask(service.url, "GET", "/readyz")).body.degraded.map(({ part }: { part: string }) => part);
  const works = async (part: string): Promise<void> => {
    await put(service, 1, 7);
    const { body } = await ask(service.url, "GET", `/v1/events?after=${before}`);
    t.match(body.events.at(-1), { cmd: "BPF_MAP_UPDATE_ELEM", position: body.position }, part);
    t.match(await resumed(t, service, "1", watched), { event: "bookmark", position: watched }, part);
    t.match(await resumed(t, service, "1", body.position), { event: "bookmark" }, part);
  };
  t.match(await ask(service.url, "GET", "/v1/events?map=1&before=20&limit=1"), { status: 200 }, "from the log");
  t.same(await degraded(), ["index"]);
  await works("index");
  disk.fail();
  while ((await degraded()).length > 0) await sleep(50);
  disk.fail({ op: "write", file: "tree.sqlite-wal", action: "EIO", count: -1 });
  await put(service, 1, 7);
  t.equal((await ask(service.url, "GET", "/checkpoint")).status, 503);
  await works("tree");
  disk.fail();
  while ((await ask(service.url, "GET", "/checkpoint")).status !== 200) await sleep(50);
  await service.end("SIGTERM");
});
