import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { Archive } from "../../src/archive/archive.ts";
import { eventLine } from "../../src/archive/event_line.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import type { EventRow } from "../../src/log/event.ts";
import { SqliteArchiveSource } from "../../src/sqlite/archive_source.ts";
import { mapledger } from "../support/cli.ts";
import { HOST } from "../support/commands.ts";
import { dump, foldRows } from "../support/fold.ts";
import { Load, prepare } from "../support/load.ts";
import { startService } from "../support/service_process.ts";

const folder = mkdtempSync(join(tmpdir(), "mapledger-archiving-"));
const data = join(folder, "data");
const directory = join(folder, "archive");
const settings = {
  MAPLEDGER_DATA: data,
  MAPLEDGER_MIRROR: "off",
  MAPLEDGER_CPUS: String(HOST.possibleCpus),
  MAPLEDGER_ARCHIVE: directory,
};
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

async function get(url: string): Promise<Record<string, unknown>> {
  const response = await fetch(url);
  return { status: response.status, ...((await response.json()) as object) };
}

function keptRows(): EventRow[] {
  const source = new SqliteArchiveSource(join(data, "events.sqlite"));
  const rows = [...source.rows(0, source.lastSeq)];
  source.close();
  return rows;
}

t.test("a service that is in use archives and goes on; also when all that is derived is made again", async (t) => {
  let service = await startService(settings);
  await prepare(service.url);
  const load = new Load(service.url, 4);
  await load.more(300);
  const past = await get(`${service.url}/v1/maps/1/elements?at=200`);
  const ran = await mapledger("archive", "--before", "201", "--url", service.url);
  t.equal(ran.code, 0, ran.stderr);
  t.match(ran.stdout, /^events 1 to 200 are in .*archive\n$/);
  while ((keptRows()[0]?.seq ?? 0) <= 200) await load.more(5);
  await load.more(20);
  await load.stop();

  const away = join(folder, "away");
  const check = async (): Promise<void> => {
    const { url } = service;
    renameSync(directory, away);
    const gone = { status: 410, oldest_seq: 201 };
    for (const path of ["events/200", "events?after=100", "events/200/proof", "maps/1/elements?at=199"])
      t.match(await get(`${url}/v1/${path}`), gone, path);
    t.match(await get(`${url}/v1/maps/1/diff?from=199`), gone);
    t.match(await get(`${url}/v1/maps/1/elements?at=2020-01-01T00:00:00Z`), gone);
    t.match(await get(`${url}/v1/events?limit=1`), { oldest_seq: 201, events: [{ seq: 201 }] });
    t.same(await get(`${url}/v1/maps/1/elements?at=200`), past, "as of the last archived event");
    const { events } = (await get(`${url}/v1/events?cmd=ARCHIVE`)) as { events: Record<string, unknown>[] };
    t.match(events, [{ cmd: "ARCHIVE", caller: "anonymous", attr: { first: 1, through: 200, directory } }]);
    const { events: found } = (await get(`${url}/v1/events?map=1&cmd=BPF_MAP_LOOKUP_BATCH&limit=5`)) as {
      events: { seq: number }[];
    };
    t.ok(found.length > 0 && found.every(({ seq }) => seq > 200), "the index answers for those that are kept");
    const element = (past.elements as { key: string }[])[0]?.key as string;
    const history = await get(`${url}/v1/maps/1/elements/${element}/history`);
    t.ok((history.versions as { seq: number }[]).every(({ seq }) => seq > 200));
    t.equal((await fetch(`${url}/checkpoint`)).status, 200);
    t.match(await get(`${url}/v1/log`), { refusal: null });
    renameSync(away, directory);
  };
  await check();
  t.match(await get(`${service.url}/v1/archive`), { oldest_seq: 201, job: { state: "done", error: null } });
  const again = await mapledger("archive", "--before", "150", "--url", service.url);
  t.match(again, { code: 0, stdout: "nothing to archive: the oldest event is 201\n" });
  await service.end("SIGKILL");

  const all = [...new Archive(directory).rows(0, 200), ...keptRows()];
  t.strictSame(
    all.map(({ seq }) => seq),
    all.map((_, at) => at + 1),
  );
  for (const derived of ["state", "history", "index"]) rmSync(join(data, derived), { recursive: true, force: true });
  service = await startService(settings);
  await check();
  t.equal(await service.end("SIGTERM"), 0);
  const store = new LmdbStore(join(data, "state"), logId());
  t.strictSame(dump(store), foldRows(all, HOST));
  await store.close();
  t.equal(all.map(eventLine).length, keptRows().length + 200);
});

function logId(): string {
  const source = new SqliteArchiveSource(join(data, "events.sqlite"));
  source.close();
  return source.id;
}
