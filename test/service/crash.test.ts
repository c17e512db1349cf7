import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Sqlite from "better-sqlite3";
import t, { type Test } from "tap";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { type EventRow, rowEvent } from "../../src/log/event.ts";
import type { MapRecord } from "../../src/maps/map.ts";
import { Bpf } from "../../src/native/bpf.ts";
import { openBpf } from "../../src/native/probe.ts";
import { elementsOf } from "../../src/syscall/elements.ts";
import { redo } from "../../src/syscall/execute.ts";
import { OPERATOR, OpenMap } from "../../src/syscall/open_map.ts";
import { State } from "../../src/syscall/state.ts";
import { unfitForKernel } from "../support/bpffs.ts";
import { HOST } from "../support/commands.ts";
import { OWN_NAME } from "../support/own_name.ts";
import { random, SEED } from "../support/seed.ts";
import { startService } from "../support/service_process.ts";

const ROUNDS = Number(process.env.ROUNDS ?? 6);
const CLIENTS = 8;
/** Before a kill. */
const ANSWERS_MAX = 500;
const roll = random(SEED);

interface Answered {
  readonly seq: number;
  readonly cmd: string;
  readonly key: string | null;
  readonly value: string | null;
  readonly errno: string | null;
}

const data = mkdtempSync(join(tmpdir(), "mapledger-crash-"));
const bpffs = `/sys/fs/bpf/mapledger_crash_${OWN_NAME}`;
const bpf = openBpf();
const mirrorOff = unfitForKernel();
const environment = {
  MAPLEDGER_DATA: data,
  MAPLEDGER_MIRROR: mirrorOff === null ? "required" : "off",
  MAPLEDGER_BPFFS: bpffs,
  MAPLEDGER_SESSION_TTL: "3600",
};
t.teardown(() => {
  rmSync(data, { recursive: true, force: true });
  rmSync(bpffs, { recursive: true, force: true });
});

/** What the log adds up to, read on as it grows. */
const folded = new State(new MemoryCells(), HOST, IGNORE);
let foldedSeq = 0;

t.test(`kill -9 under load, ${ROUNDS} rounds: nothing answered is lost, nothing is there twice`, async (t) => {
  t.comment(`SEED=${SEED}${mirrorOff === null ? "" : `; no mirror: ${mirrorOff}`}`);
  let total = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    const service = await startService(environment);
    if (round === 1) await prepare(service.url);
    await compareState(t, service.url, round);
    const answered: Answered[] = [];
    const clients = Array.from({ length: CLIENTS }, (_, client) => work(service.url, client, answered));
    for (const enough = 1 + roll(ANSWERS_MAX); answered.length < enough; ) await sleep(1);
    await service.end("SIGKILL");
    await Promise.all(clients);
    total += answered.length;
    compareLog(t, answered, round);
  }
  const service = await startService(environment);
  await compareState(t, service.url, ROUNDS + 1);
  t.equal(await service.end("SIGTERM"), 0, "and it stops cleanly");
  t.comment(`${total} commands were answered`);
});

async function prepare(url: string): Promise<void> {
  await call(url, "POST", "/v1/sessions", {});
  const shapes = [
    { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 8, max_entries: 500 },
    { map_type: "BPF_MAP_TYPE_ARRAY", key_size: 4, value_size: 8, max_entries: 50 },
    { map_type: "BPF_MAP_TYPE_LPM_TRIE", key_size: 8, value_size: 8, max_entries: 500, map_flags: 1 },
  ];
  for (const shape of shapes) await call(url, "POST", "/v1/sessions/1/maps", shape);
  await call(url, "POST", "/v1/sessions/1/fds/3/pin", { pathname: "/sys/fs/bpf/kept" });
}

/** Sends commands of all sorts through the syscall door until the service is gone. */
async function work(url: string, client: number, answered: Answered[]): Promise<void> {
  for (;;) {
    const fd = 3 + roll(3);
    const key = keyOf(fd);
    const value = Buffer.alloc(8, roll(256)).toString("hex");
    const pick = roll(20);
    const command =
      pick < 9
        ? { cmd: "BPF_MAP_UPDATE_ELEM", attr: { map_fd: fd, key, value } }
        : pick < 12
          ? { cmd: "BPF_MAP_DELETE_ELEM", attr: { map_fd: fd, key } }
          : pick < 15
            ? { cmd: "BPF_MAP_LOOKUP_ELEM", attr: { map_fd: fd, key } }
            : pick < 17
              ? { cmd: "BPF_MAP_UPDATE_BATCH", attr: batch(fd) }
              : pick < 18
                ? { cmd: "BPF_MAP_LOOKUP_AND_DELETE_BATCH", attr: { map_fd: 3, count: roll(40) } }
                : pick < 19
                  ? {
                      cmd: "BPF_MAP_CREATE",
                      attr: { map_type: 1, key_size: 4, value_size: 4, max_entries: 1 + roll(9) },
                    }
                  : { cmd: "BPF_OBJ_PIN", attr: { bpf_fd: fd, pathname: `pin${client}_${roll(1000)}` } };
    try {
      const reply = await call(url, "POST", "/v1/sessions/1/bpf", command);
      const { seq, errno } = reply as { seq: number; errno: string | null };
      const given = command.attr as { key?: string; value?: string };
      answered.push({ seq, errno, cmd: command.cmd, key: given.key ?? null, value: given.value ?? null });
    } catch {
      return;
    }
  }
}

function keyOf(fd: number): string {
  const key = Buffer.alloc(fd === 5 ? 8 : 4);
  key.writeUInt32LE(roll(fd === 5 ? 33 : 60));
  if (fd === 5) key.writeUInt32BE(roll(2 ** 16) * 65_536, 4);
  return key.toString("hex");
}

function batch(fd: number): object {
  const count = 1 + roll(30);
  const keys = Array.from({ length: count }, () => keyOf(fd)).join("");
  return { map_fd: fd, keys, values: Buffer.alloc(8 * count, roll(256)).toString("hex"), count };
}

async function call(url: string, method: string, path: string, body: object): Promise<unknown> {
  const init = { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`${url}${path}`, init);
  const answer = await response.json();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
  return answer;
}

/** Every answered command is in the log once, at its seq, as it was answered; the log has no gap. */
function compareLog(t: Test, answered: readonly Answered[], round: number): void {
  const db = new Sqlite(join(data, "events.sqlite"), { readonly: true });
  const { least, most, count } = db
    .prepare("SELECT min(seq) least, max(seq) most, count(*) count FROM events")
    .get() as Record<string, number>;
  const row = db.prepare("SELECT cmd, key, value, errno FROM readable WHERE seq = ?");
  const wrong = answered.filter((one) => {
    const found = row.get(one.seq) as Omit<Answered, "seq"> | undefined;
    if (found === undefined || found.cmd !== one.cmd || found.errno !== one.errno) return true;
    if (one.cmd === "BPF_MAP_UPDATE_ELEM") return found.key !== one.key || found.value !== one.value;
    return one.key !== null && found.key !== one.key;
  });
  db.close();
  const ok =
    wrong.length === 0 &&
    least === 1 &&
    count === most &&
    new Set(answered.map(({ seq }) => seq)).size === answered.length;
  t.ok(ok, `round ${round}: ${answered.length} answered commands are in the log of ${count}`, {
    wrong: wrong.slice(0, 5),
    least,
    most,
    count,
  });
}

/** Maps, elements and pins over HTTP, and in the kernel, are what the log adds up to. */
async function compareState(t: Test, url: string, round: number): Promise<void> {
  fold();
  const maps = [...folded.maps.from("")].map(([, map]) => map);
  t.strictSame(
    await listed(url),
    maps.map((map) => [map.id, folded.counts.listed(map)]),
    `round ${round}: ${maps.length} maps`,
  );
  let elements = 0;
  for (const map of maps) {
    const expected = stored(map);
    elements += expected.size;
    const response = await fetch(`${url}/v1/maps/${map.id}/elements`, { headers: { accept: "application/x-ndjson" } });
    const lines = (await response.text()).split("\n").filter((line) => line !== "");
    const found = new Map(
      lines.map((line) => JSON.parse(line) as { key: string; value: string }).map(({ key, value }) => [key, value]),
    );
    if (!same(found, expected)) t.fail(`round ${round}: map ${map.id} is not what the log adds up to`);
    if (mirrorOff === null && bpf instanceof Bpf && !same(inKernel(bpf, map, [...expected.keys()]), expected))
      t.fail(`round ${round}: the kernel's map of map ${map.id} is not what the state is`);
  }
  t.pass(`round ${round}: ${elements} elements in the state${mirrorOff === null ? " and in the kernel" : ""}`);
}

/** Each map's id and number of elements. */
async function listed(url: string): Promise<[id: number, entries: number][]> {
  const maps: [number, number][] = [];
  for (let after: number | null = 0; after !== null; ) {
    const page = (await (await fetch(`${url}/v1/maps?after=${after}&limit=1000`)).json()) as MapsPage;
    maps.push(...page.maps.map(({ id, entries }): [number, number] => [id, entries]));
    after = page.next;
  }
  return maps;
}

interface MapsPage {
  readonly maps: readonly { readonly id: number; readonly entries: number }[];
  readonly next: number | null;
}

function fold(): void {
  const db = new Sqlite(join(data, "events.sqlite"), { readonly: true });
  for (const row of db.prepare("SELECT * FROM events WHERE seq > ? ORDER BY seq").all(foldedSeq) as EventRow[]) {
    const { seq, command, outcome } = rowEvent(row);
    redo(folded, command, outcome);
    foldedSeq = seq;
  }
  db.close();
}

function stored(map: MapRecord): Map<string, string> {
  const open = new OpenMap(folded, map, OPERATOR);
  const elements = elementsOf(open, null);
  return new Map([...elements].map(({ key, value }) => [key.toString("hex"), value.toString("hex")]));
}

/** The kernel map's elements, by a walk over its keys, so that strays are found, too. */
function inKernel(bpf: Bpf, map: MapRecord, expected: readonly string[]): Map<string, string> {
  const fd = bpf.get(`${bpffs}/by_id/${map.id}`);
  if (fd < 0) return new Map([["no kernel map", String(fd)]]);
  const found = new Map<string, string>();
  const next = Buffer.allocUnsafeSlow(map.keySize);
  const value = Buffer.allocUnsafeSlow(map.valueSize);
  let key: Buffer | null = null;
  while (found.size <= expected.length && bpf.nextKey(fd, key, next) >= 0) {
    key = Buffer.from(next);
    if (bpf.lookup(fd, key, value) >= 0) found.set(key.toString("hex"), value.toString("hex"));
  }
  bpf.close(fd);
  return found;
}

function same(found: ReadonlyMap<string, string>, expected: ReadonlyMap<string, string>): boolean {
  return found.size === expected.size && [...expected].every(([key, value]) => found.get(key) === value);
}
