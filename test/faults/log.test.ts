import { once } from "node:events";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import t, { type Test } from "tap";
import { ask } from "../support/api.ts";
import { Disk, type Rule } from "../support/disk.ts";
import { type ServiceProcess, said, startService } from "../support/service_process.ts";

const WAL = "events.sqlite-wal";

async function withQueue(disk: Disk): Promise<ServiceProcess> {
  const service = await startService(disk.environment);
  await ask(service.url, "POST", "/v1/sessions", {});
  const queue = { map_type: "BPF_MAP_TYPE_QUEUE", value_size: 8, max_entries: 100 };
  await ask(service.url, "POST", "/v1/sessions/1/maps", queue);
  await ask(service.url, "POST", "/v1/sessions/1/fds/3/pin", { pathname: "/sys/fs/bpf/q" });
  return service;
}

const push = ({ url }: ServiceProcess, byte: number) =>
  ask(url, "POST", "/v1/maps/1/push", { value: byte.toString(16).padStart(2, "0").repeat(8) });

/** First bytes of what is in the queue, in its order. */
async function queued({ url }: ServiceProcess): Promise<number[]> {
  const { body, text } = await ask(url, "GET", "/v1/maps/1/elements?limit=100");
  if (body?.elements === undefined) throw new Error(text);
  return body.elements.map(({ value }: { value: string }) => Number.parseInt(value.slice(0, 2), 16));
}

t.test("a write of the log that fails is a no: the service goes on, and a kill brings nothing back", async (t) => {
  const disk = new Disk(t);
  let service = await withQueue(disk);
  const rows: readonly (readonly [Rule["action"], number, string])[] = [
    ["ENOSPC", 507, "disk-full"],
    ["EIO", 503, "log-failed"],
  ];
  for (const [at, [action, status, name]] of rows.entries()) {
    // A commit writes a frame's head and its page: each of them may be what fails.
    for (const skip of [0, 1]) {
      const byte = 16 * at + 2 * skip + 1;
      disk.fail({ op: "write", file: WAL, action, skip });
      const no = await push(service, byte);
      t.match(
        no.body,
        { status, type: `urn:mapledger:problem:${name}`, detail: /nothing was changed/ },
        `${action} ${skip}`,
      );
      t.equal((await push(service, byte + 1)).status, 200);
    }
  }
  t.equal(disk.hits.length, 4);
  disk.fail({ op: "write", file: WAL, action: "ENOSPC", count: -1 });
  t.equal((await push(service, 99)).status, 507);
  t.equal((await ask(service.url, "GET", "/readyz")).status, 200);
  t.equal((await ask(service.url, "GET", "/v1/events?limit=1")).status, 200, "what is no command is answered");
  await service.end("SIGKILL");
  disk.fail();
  service = await startService(disk.environment);
  t.same(await queued(service), [2, 4, 18, 20]);
  await service.end("SIGTERM");
});

/** An outcome that nobody knows is told as one, and the process ends. */
async function endsUnknown(t: Test, disk: Disk, service: ServiceProcess): Promise<void> {
  const exited = once(service.child, "close");
  const [unknown, other] = await Promise.all([push(service, 7), ask(service.url, "GET", "/v1/sessions/1")]);
  t.match(unknown.body, { status: 500, type: "urn:mapledger:problem:outcome-unknown", detail: /unknown/ });
  t.notMatch(unknown.text, /nothing was changed/);
  t.equal(unknown.headers.get("retry-after"), null);
  t.ok([0, 200, 503].includes(other.status));
  t.same(await exited, [1, null]);
  await said(service, 60, /the service ends/);
  t.equal(disk.hits.length, 1);
  disk.fail();
}

t.test("after a sync of the log that fails nobody knows: it says so, and ends", async (t) => {
  for (const action of ["EIO", "ENOSPC"] as const) {
    const disk = new Disk(t);
    const service = await withQueue(disk);
    disk.fail({ op: "sync", file: WAL, action });
    await endsUnknown(t, disk, service);
    const again = await startService(disk.environment);
    const found = await queued(again);
    t.ok(found.length === 0 || found[0] === 7, "it is there or not");
    t.equal((await push(again, 8)).status, 200);
    t.same(await queued(again), [...found, 8]);
    await again.end("SIGTERM");
  }
});

t.test("what a start after a failed sync has served is not lost with the power", async (t) => {
  const disk = new Disk(t, { keeps: true });
  const service = await withQueue(disk);
  disk.fail({ op: "sync", file: WAL, action: "drop" });
  await endsUnknown(t, disk, service);
  const again = await startService(disk.environment);
  const served = await queued(again);
  t.equal((await push(again, 8)).status, 200);
  await again.end("SIGKILL");
  disk.losePower();
  const last = await startService(disk.environment);
  t.same(await queued(last), [...served, 8]);
  await last.end("SIGTERM");
});

t.test("a start whose log cannot be synced is refused", async (t) => {
  const disk = new Disk(t);
  const service = await withQueue(disk);
  await service.end("SIGKILL");
  disk.fail({ op: "sync", file: WAL, action: "EIO" });
  await t.rejects(startService(disk.environment), /ended with 1: .*SQLITE_IOERR_FSYNC/s);
  disk.fail();
  const again = await startService(disk.environment);
  t.same(await queued(again), []);
  await again.end("SIGTERM");
});

t.test("nothing is answered that would be gone with the process: it ends when its log is gone", async (t) => {
  for (const gone of ["data", "events.sqlite", WAL])
    for (const isAsked of [true, false]) {
      const disk = new Disk(t);
      const service = await withQueue(disk);
      const exited = once(service.child, "close");
      rmSync(gone === "data" ? disk.data : join(disk.data, gone), { recursive: true });
      // Unknown, if the append before has just found the file: a second look comes behind the commit.
      if (isAsked)
        t.match(
          (await push(service, 1)).body,
          { status: 503, detail: /nothing was changed|is ending|is unknown/ },
          gone,
        );
      t.same(await exited, [1, null], gone);
      await said(service, 60, /the service ends/);
    }
});

t.test("a log that has a damaged page is refused, and written to no more", async (t) => {
  const disk = new Disk(t);
  const service = await withQueue(disk);
  for (let byte = 0; byte < 90; byte++) await push(service, byte);
  await service.end("SIGTERM");
  const file = join(disk.data, "events.sqlite");
  const sound = readFileSync(file);
  const damaged = Buffer.from(sound);
  // Of a log that is not garbled at its beginning; SQLite's first page names all tables.
  damaged.fill(0xa5, damaged.length - 2 * 4096);
  writeFileSync(file, damaged);
  await t.rejects(startService(disk.environment), /ended with 1: .*the log is damaged.*restore-backup/s);
  t.ok(readFileSync(file).equals(damaged), "nothing was written");
  writeFileSync(file, sound);
  const again = await startService(disk.environment);
  t.equal((await queued(again)).length, 90);
  await again.end("SIGTERM");
});
