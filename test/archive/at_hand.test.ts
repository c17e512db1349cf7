import { hash } from "node:crypto";
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import t from "tap";
import { CMD } from "../../src/abi/service.ts";
import { Archive } from "../../src/archive/archive.ts";
import { ArchivedEvents } from "../../src/data/archived_events.ts";
import type { ArchivedLog } from "../../src/data/archived_log.ts";
import { ArchivedClient } from "../../src/index/archived_client.ts";
import { ARCHIVED } from "../../src/index/protocol.ts";
import type { EventRow } from "../../src/log/event.ts";
import { mapledger } from "../support/cli.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

const folder = mkdtempSync(join(tmpdir(), "mapledger-at-hand-"));
const data = join(folder, "data");
const archive = join(folder, "archive");
const moved = join(folder, "moved");
const settings = { MAPLEDGER_DATA: data, MAPLEDGER_ARCHIVE: archive, MAPLEDGER_MIRROR: "off" };
const NDJSON = { accept: "application/x-ndjson" };

type Json = Record<string, unknown>;
let service: ServiceProcess = await startService(settings);
t.teardown(async () => {
  await service.end("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

async function send(method: string, path: string, body?: object): Promise<Json> {
  const payload =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await fetch(`${service.url}${path}`, { method, ...payload });
  const text = await response.text();
  return { status: response.status, ...(text.startsWith("{") ? JSON.parse(text) : { text }) };
}

const get = (path: string): Promise<Json> => send("GET", path);

/** A log that has gone on has been looked at further, where nothing more can match. */
function lookedAt(answer: Json, question: string): Json {
  return question.includes("?until=") ? { ...answer, position: null } : answer;
}

async function lastSeq(): Promise<number> {
  return (await get("/v1/log")).last_seq as number;
}

async function archiveBefore(seq: number): Promise<void> {
  const ran = await mapledger("archive", "--before", String(seq), "--url", service.url);
  if (ran.code !== 0) throw new Error(ran.stderr);
}

/** All pages of a list of events, in the order in which they come. */
async function pages(query: string, link: "next" | "prev"): Promise<unknown[]> {
  const events: unknown[] = [];
  const [name, first] = link === "next" ? ["after", 0] : ["before", 1e9];
  for (let at: unknown = first; at !== null; ) {
    const page = await get(`/v1/events?limit=7&${name}=${at}${query}`);
    if (page.status !== 200) throw new Error(JSON.stringify(page));
    const found = page.events as unknown[];
    events.push(...(link === "next" ? found : found.toReversed()));
    at = page[link];
  }
  return events;
}

let [session, map, freed] = [0, 0, 0];
let early = "";
let end = 0;
const key = (n: number): string => `0${n}000000`;

/** What is asked before events are archived, and again afterwards: none of it tells of later events. */
function questions(): string[] {
  const until = `before=${end + 1}`;
  return [
    ...[1, 3, 17, 30, 44, 58].map((seq) => `/v1/events/${seq}`),
    `/v1/events?${until}&limit=200`,
    `/v1/events?${until}&limit=200&map=${map}&key=02`,
    `/v1/events?${until}&limit=200&cmd=BPF_MAP_UPDATE_BATCH&key=04`,
    `/v1/events?${until}&limit=200&errno=ENOENT`,
    `/v1/events?${until}&limit=5&since=${early}`,
    `/v1/events?until=${early}&limit=200`,
    ...[0, 9, 21, 45].map((seq) => `/v1/maps/${map}/elements?at=${seq}&limit=3`),
    `/v1/maps/${map}/elements/${key(1)}?at=12`,
    `/v1/maps?at=20`,
    `/v1/maps/${map}/elements?at=${early}`,
    `/v1/maps/${map}/diff?from=8&to=40`,
    `/v1/maps/${map}/diff?from=${early}&to=${end}`,
    `/v1/maps/${freed}/elements/${key(1)}/history`,
    `/v1/maps/${map}/elements/${key(1)}/history`,
    `/v1/maps/${map}/elements/${key(2)}/history?limit=3`,
    `/v1/maps/${map}/elements/${key(2)}/history?limit=3&before=${end}`,
    `/v1/maps/${map}/elements/${key(2)}/history?limit=3&after=30`,
  ];
}

t.test("what was asked before events are archived is answered likewise afterwards", async (t) => {
  session = (await send("POST", "/v1/sessions", { name: "one" })).id as number;
  const attr = { map_type: "BPF_MAP_TYPE_HASH", map_name: "one", key_size: 4, value_size: 4, max_entries: 16 };
  map = (await send("POST", `/v1/sessions/${session}/maps`, attr)).map_id as number;
  await send("PUT", `/v1/maps/${map}/elements/${key(1)}`, { value: key(1) });
  const other = (await send("POST", "/v1/sessions", { name: "other" })).id as number;
  freed = (await send("POST", `/v1/sessions/${other}/maps`, { ...attr, map_name: "other" })).map_id as number;
  await send("PUT", `/v1/maps/${freed}/elements/${key(1)}`, { value: key(3) });
  await send("DELETE", `/v1/sessions/${other}`);
  for (let n = 0; n < 40; n++) {
    if (n === 12) early = (await get(`/v1/events/${await lastSeq()}`)).time as string;
    await send("PUT", `/v1/maps/${map}/elements/${key(2)}`, { value: key(n % 10) });
    if (n % 9 === 0) await get(`/v1/maps/${map}/elements/${key(9)}`);
    const elements = [4, 5].map((k) => ({ key: key(k), value: key(n % 10) }));
    if (n % 8 === 0) await send("POST", `/v1/maps/${map}/batch/update`, { elements });
  }
  end = await lastSeq();
  const asked = questions();
  const before = await Promise.all(asked.map(get));
  const proofs = await Promise.all([2, 17, 40].map((seq) => get(`/v1/events/${seq}/proof`)));
  const lines = async (): Promise<string[]> =>
    (await (await fetch(`${service.url}/v1/events`, { headers: NDJSON })).text()).split("\n").slice(0, end);
  const exported = await lines();
  for (const seq of [15, 30, 45]) await archiveBefore(seq);
  const check = async (): Promise<void> => {
    for (const [at, question] of asked.entries())
      t.strictSame(lookedAt(await get(question), question), lookedAt(before[at] as Json, question), question);
    for (const [at, seq] of [2, 17, 40].entries()) {
      const text = (await get(`/v1/events/${seq}/proof`)).text as string;
      t.equal(text.split("\n")[1], String(proofs[at]?.text).split("\n")[1], "the event that is proven is the same");
      writeFileSync(join(folder, "proof"), text);
      const { vkey } = await get("/v1/log");
      const proven = await mapledger("verify-proof", join(folder, "proof"), "--key", vkey as string);
      t.match(proven, { code: 0, stdout: `event ${seq} is in the log` });
    }
    t.strictSame(await lines(), exported, "an export has all of them");
    for (const query of ["", `&map=${map}`, "&errno=ENOENT", `&key=02`]) {
      const upwards = await pages(query, "next");
      t.strictSame((await pages(query, "prev")).toReversed(), upwards, `pages${query}`);
      t.match(upwards[0], query === "" ? { seq: 1 } : {});
    }
    t.match(await get("/v1/archive"), { oldest_seq: 45 });
    t.match(await get("/v1/events?after=50"), { oldest_seq: 1 });
    const stream = await fetch(`${service.url}/v1/events/stream?after=10`);
    let told = "";
    for await (const piece of (stream.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
      told += piece;
      if (told.includes(`"seq":${end},"time"`)) break;
    }
    t.strictSame(
      [...told.matchAll(/"seq":(\d+),"time"/g)].map(([, seq]) => Number(seq)).slice(0, end - 10),
      Array.from({ length: end - 10 }, (_, at) => at + 11),
      "a stream goes on from there",
    );
  };
  await check();
  t.equal(await service.end("SIGKILL"), null);
  for (const name of ["history", "state", "index"]) rmSync(join(data, name), { recursive: true, force: true });
  service = await startService(settings);
  await check();
});

t.test("without the archive each answer says from where on it can tell", async (t) => {
  renameSync(archive, moved);
  await service.end("SIGKILL");
  rmSync(join(data, "whole"), { recursive: true });
  rmSync(join(data, "history"), { recursive: true });
  service = await startService(settings);
  const gone = { status: 410, type: "urn:mapledger:problem:archived", oldest_seq: 45 };
  for (const path of [
    "events/44",
    "events?after=3",
    "events/44/proof",
    "events/stream?after=2",
    `maps/${map}/elements?at=43`,
  ])
    t.match(await get(`/v1/${path}`), gone, path);
  t.match(await get(`/v1/maps/${map}/diff?from=${early}`), gone);
  t.match(await get(`/v1/maps/${freed}/elements/${key(1)}/history`), gone, "of a map that archived events have freed");
  t.match(await get(`/v1/maps/${freed + 7}/elements/${key(1)}/history`), { status: 404 }, "of none that there was");
  t.match(await get("/v1/events?limit=1"), { oldest_seq: 45, events: [{ seq: 45 }] });
  t.match(await get(`/v1/maps/${map}/elements/${key(1)}/history`), { status: 200, versions: [], oldest_seq: 45 });
  renameSync(moved, archive);
  await service.end("SIGKILL");
  service = await startService(settings);
  t.match(await get(`/v1/maps/${map}/elements/${key(1)}/history`), { versions: [{ seq: 3 }], oldest_seq: null });
});

t.test(
  "a damaged segment, and one that the log's tree does not have, are not at hand; what is behind them is",
  async (t) => {
    cpSync(archive, moved, { recursive: true });
    const [, segment] = new Archive(archive).segments;
    const file = join(archive, segment?.name as string);
    const bytes = readFileSync(file);
    const forged = zstdCompressSync(
      zstdDecompressSync(bytes).toString().replace('"one"', '"two"').replace("04000000", "05000000"),
    );
    for (const [what, content, sum] of [
      ["cut", bytes.subarray(0, 100), segment?.sha256],
      ["forged, with its sum", forged, hash("sha256", forged)],
    ] as const) {
      await service.end("SIGKILL");
      rmSync(join(data, "whole"), { recursive: true });
      writeFileSync(file, content);
      const sums = readFileSync(join(moved, "SHA256SUMS"), "utf8");
      writeFileSync(join(archive, "SHA256SUMS"), sums.replace(segment?.sha256 as string, sum as string));
      service = await startService(settings);
      t.match(await get("/v1/events/20"), { status: 410, oldest_seq: 30 }, what);
      t.match(await get("/v1/events/30"), { status: 200 }, what);
      t.match(await get("/v1/events?after=29&limit=2"), { events: [{ seq: 30 }, { seq: 31 }], oldest_seq: 30 }, what);
      t.match(await get(`/v1/maps/${map}/elements?at=40`), { status: 410, oldest_seq: 45 }, what);
    }
    rmSync(archive, { recursive: true });
    renameSync(moved, archive);
  },
);

t.test("who asks from where on events are at hand does not wait for those who have a segment unpacked", async (t) => {
  const places = { data, archive, foreign: false };
  const thread = new ArchivedClient(() => ARCHIVED.start(places), t.comment);
  const answered: string[] = [];
  await Promise.all([
    thread.event(3).then(() => answered.push("event")),
    thread.oldestSeq().then(() => answered.push("oldest")),
  ]);
  t.strictSame(answered, ["oldest", "event"]);
  await thread.close();
});

t.test("whose session it was is looked for in so many segments at a time, and found by who asks again", async (t) => {
  const folder = t.testdir();
  const session = 7;
  const row = (seq: number): EventRow => ({
    ...{ seq, time_us: seq, session: 0, caller: "one", map: 0, fd: null, key: null, value: null },
    ...{ flags: 0, ret: 0, errno: 0, detail: null },
    cmd: seq === 1 ? CMD.SESSION_OPEN : CMD.BPF_MAP_LOOKUP_ELEM,
    attr: seq === 1 ? '{"peer":"192.0.2.1"}' : null,
    out: seq === 1 ? `{"session_id":${session}}` : null,
  });
  const segments = Array.from({ length: 40 }, (_, at) => ({ ...{ first: at + 1, through: at + 1 }, name: `s${at}` }));
  let unpacked = 0;
  const log = {
    log: { life: "l" },
    segments,
    close() {},
    async *rows({ first: seq }: { readonly first: number }) {
      unpacked++;
      yield [row(seq)];
    },
  };
  const events = new ArchivedEvents(log as unknown as ArchivedLog, { data: folder });
  let asked = 0;
  for (let peer: string | null = null; peer === null; asked++) {
    unpacked = 0;
    [peer = null] = await events.peers([session]);
    t.ok(unpacked <= 8, `${unpacked} segments are unpacked for a question`);
    if (peer !== null) t.equal(peer, "192.0.2.1");
  }
  t.ok(asked > 1);
  unpacked = 0;
  t.strictSame(await events.peers([1, 2, session]), [null, null, "192.0.2.1"]);
  t.equal(unpacked, 0);
  events.close();
});
