import { copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Test, test } from "tap";
import { readProof } from "../../src/log/tlog_proof.ts";
import { openNote, readCheckpoint, readVkey, type Verifier } from "../../src/tlog/note.ts";
import { type ServiceProcess, said, startService } from "../support/service_process.ts";

const PATH = "/v1/sessions/1/fds/3/elements/01000000";

function dataOf(t: Test): string {
  const data = mkdtempSync(join(tmpdir(), "mapledger-evidence-"));
  t.teardown(() => rmSync(data, { recursive: true }));
  return data;
}

const start = (data: string, more: Record<string, string> = {}): Promise<ServiceProcess> =>
  startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off", ...more });

async function post(url: string, path: string, body: object): Promise<void> {
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`POST ${path}: ${response.status} ${await response.text()}`);
}

async function prepare({ url }: ServiceProcess): Promise<void> {
  await post(url, "/v1/sessions", {});
  await post(url, "/v1/sessions/1/maps", {
    map_type: "BPF_MAP_TYPE_HASH",
    key_size: 4,
    value_size: 4,
    max_entries: 10,
  });
}

/** Sends lookups until it has sent so many, or the service is gone; answers the last seq. */
async function look({ url }: ServiceProcess, count: number): Promise<number> {
  let last = 0;
  for (let at = 0; at < count; at++) {
    try {
      const response = await fetch(`${url}${PATH}`);
      last = Number(((await response.json()) as { seq: number }).seq);
    } catch {
      break;
    }
  }
  return last;
}

const text = async ({ url }: ServiceProcess, path: string): Promise<string> => (await fetch(`${url}${path}`)).text();
const json = async (service: ServiceProcess, path: string): Promise<Record<string, unknown>> =>
  JSON.parse(await text(service, path)) as Record<string, unknown>;

function sizeOf(note: string, verifier: Verifier): number {
  const opened = openNote(note, verifier);
  if ("wrong" in opened) throw new Error(opened.wrong);
  return readCheckpoint(opened.text)?.size ?? -1;
}

test("a checkpoint has every event that was answered, through kills, under one key and name", async (t) => {
  const data = dataOf(t);
  let verifier: Verifier | null = null;
  for (let round = 0; round < 3; round++) {
    const service = await start(data, { MAPLEDGER_ORIGIN: round === 0 ? "ledger.example.org" : "" });
    if (round === 0) await prepare(service);
    const { vkey, refusal } = await json(service, "/v1/log");
    verifier ??= readVkey(vkey as string) as Verifier;
    t.same([vkey, refusal], [verifier.vkey, null]);
    const last = await look(service, 100);
    t.ok(sizeOf(await text(service, "/checkpoint"), verifier) >= last);
    const proven = readProof(await text(service, `/v1/events/${last}/proof`), verifier);
    t.match(proven, { event: { seq: last }, checkpoint: { origin: "ledger.example.org" } });
    // Killed in the middle of commands and of hashing.
    const looking = [look(service, 1000), look(service, 1000)];
    await new Promise((resolve) => setTimeout(resolve, 150 + round * 100));
    await service.end("SIGKILL");
    await Promise.all(looking);
  }
  t.equal(statSync(join(data, "log.key")).mode & 0o777, 0o600);
});

test("after an older copy of the log was put back, the service runs and signs nothing", async (t) => {
  const data = dataOf(t);
  let service = await start(data);
  await prepare(service);
  await look(service, 10);
  await service.end("SIGTERM");
  copyFileSync(join(data, "events.sqlite"), join(data, "copy"));
  service = await start(data);
  await look(service, 10);
  t.match(await text(service, "/checkpoint"), "\n22\n");
  await service.end("SIGTERM");
  copyFileSync(join(data, "copy"), join(data, "events.sqlite"));
  rmSync(join(data, "state"), { recursive: true });
  for (const events of [5, 20]) {
    service = await start(data);
    t.ok((await look(service, events)) > 12, "commands are answered");
    const problem = JSON.parse(await text(service, "/checkpoint")) as Record<string, unknown>;
    t.match(problem, { type: "urn:mapledger:problem:log-contradicted", status: 503 });
    t.equal((await json(service, "/v1/log")).refusal, problem.detail);
    t.match(await text(service, "/metrics"), "mapledger_tree_refused 1");
    t.equal((await json(service, "/readyz")).status, "ready");
    await said(service, 50, /^no checkpoint is signed/);
    const told = service.lines.filter(({ level, msg }) => level === 50 && /^no checkpoint is signed/.test(String(msg)));
    t.equal(told.length, 1);
    t.equal(await service.end("SIGTERM"), 0);
  }
});
