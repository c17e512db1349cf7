import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Sqlite from "better-sqlite3";
import { type Test, test } from "tap";
import { mapledger, mapledgerIn } from "../support/cli.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

type Json = Record<string, unknown>;

const YEAR = 365 * 86_400;

/** In every thread the machine's clock is by so many seconds ahead as the file says. */
const HOOK = `
  const { readFileSync } = require("node:fs");
  const now = Date.now;
  Date.now = () => now() + Number(readFileSync(process.env.TEST_CLOCK, "utf8")) * 1000;
`;

/** A ledger whose machine has a clock that can be put forward and back. */
class Ledger {
  readonly data: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly #clock: string;
  #aheadSeconds = 0;
  #service: ServiceProcess | null = null;

  constructor(t: Test) {
    const folder = mkdtempSync(join(tmpdir(), "mapledger-clock-"));
    this.data = join(folder, "data");
    this.#clock = join(folder, "ahead");
    const hook = join(folder, "hook.cjs");
    writeFileSync(hook, HOOK);
    this.environment = { NODE_OPTIONS: `--require ${hook}`, TEST_CLOCK: this.#clock };
    this.ahead(0);
    t.teardown(async () => {
      await this.stop();
      rmSync(folder, { recursive: true });
    });
  }

  ahead(seconds: number): void {
    this.#aheadSeconds = seconds;
    writeFileSync(this.#clock, String(seconds));
  }

  /** What the machine's clock shows. */
  now(): string {
    return new Date(Date.now() + this.#aheadSeconds * 1000).toISOString();
  }

  async start(): Promise<void> {
    this.#service = await startService({
      ...this.environment,
      MAPLEDGER_DATA: this.data,
      MAPLEDGER_MIRROR: "off",
      MAPLEDGER_SESSION_TTL_MAX: "86400",
    });
  }

  get url(): string {
    return this.#service?.url ?? "";
  }

  async stop(): Promise<void> {
    await this.#service?.end("SIGTERM");
    this.#service = null;
  }

  async send(method: string, path: string, body?: object): Promise<Json> {
    const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(`${this.#service?.url}/v1${path}`, { method, ...json });
    return (await response.json()) as Json;
  }

  /** A map with one key that this writes; answers the event's seq and time. */
  async put(value: string): Promise<{ readonly seq: number; readonly time: string }> {
    // The time of each is another one.
    await sleep(5);
    const { seq } = await this.send("PUT", "/maps/1/elements/01000000", { value });
    const { time } = await this.send("GET", `/events/${seq}`);
    return { seq: seq as number, time: time as string };
  }

  async create(): Promise<void> {
    await this.send("POST", "/sessions", { ttl_seconds: 3600 });
    const attr = { map_type: "BPF_MAP_TYPE_HASH", key_size: 4, value_size: 4, max_entries: 9 };
    const { fd } = await this.send("POST", "/sessions/1/maps", attr);
    await this.send("POST", `/sessions/1/fds/${fd}/pin`, { pathname: "/sys/fs/bpf/clocked" });
  }

  async at(moment: string): Promise<unknown> {
    const { value, type } = await this.send("GET", `/maps/1/elements/01000000?at=${encodeURIComponent(moment)}`);
    return value ?? type;
  }

  async events(query: string): Promise<Json[]> {
    return (await this.send("GET", `/events?limit=1000&${query}`)).events as Json[];
  }
}

/** From one text of RFC 3339 to another. */
const secondsFrom = (one: string, other: string): number => (Date.parse(other) - Date.parse(one)) / 1000;

test("a start whose clock is a year ahead: the next one has the true time again, and what was today is found today", async (t) => {
  const ledger = new Ledger(t);
  ledger.ahead(YEAR);
  await ledger.start();
  await ledger.create();
  const early = await ledger.put("01000000");
  await ledger.stop();
  ledger.ahead(0);
  await ledger.start();
  const two = await ledger.put("02000000");
  const three = await ledger.put("03000000");
  t.ok(Math.abs(secondsFrom(two.time, ledger.now())) < 3600, `it is ${ledger.now()}, the event says ${two.time}`);
  const [step] = await ledger.events("cmd=CLOCK_STEP");
  t.match(step, { seq: early.seq + 1, caller: "mapledger", session: null, errno: null });
  t.strictSame(step?.attr, { was: early.time, is: step?.time });
  t.equal(await ledger.at(two.time), "02000000");
  t.equal(await ledger.at(three.time), "03000000");
  t.equal(await ledger.at(ledger.now()), "03000000");
  t.match(await ledger.send("GET", `/maps/1/diff?from=${two.time}&to=${three.time}`), { from: two.seq, to: three.seq });
  const seqs = async (query: string): Promise<unknown[]> => (await ledger.events(query)).map(({ seq }) => seq);
  const all = Array.from({ length: three.seq }, (_, at) => at + 1);
  t.strictSame(await seqs(`since=${three.time}&until=${ledger.now()}`), [three.seq]);
  t.strictSame(await seqs(`since=${three.time}&map=1&before=999`), [three.seq]);
  t.strictSame(await seqs(`until=${two.time}`), all.slice(0, -1), "what was stamped before the step was earlier");
  t.strictSame(await seqs(`since=${two.time}`), all, "and by the true time nobody knows when");
  t.strictSame(await seqs(`since=${early.time}`), [], "it never was that time");
  await ledger.stop();
  t.match(await mapledger("verify", ledger.data), { code: 0 });
});

test("steps back of 5 s, an hour and another one, with a restart between", async (t) => {
  const ledger = new Ledger(t);
  ledger.ahead(7200);
  await ledger.start();
  await ledger.create();
  const one = await ledger.put("01000000");
  ledger.ahead(7195);
  const stood = await ledger.put("02000000");
  t.ok(stood.time >= one.time);
  t.strictSame(await ledger.events("cmd=CLOCK_STEP"), [], "time stands still");
  ledger.ahead(3600);
  const hour = await ledger.put("03000000");
  t.ok(secondsFrom(hour.time, stood.time) > 3000);
  await ledger.stop();
  ledger.ahead(0);
  await ledger.start();
  const last = await ledger.put("04000000");
  t.ok(secondsFrom(last.time, hour.time) > 3000);
  const steps = await ledger.events("cmd=CLOCK_STEP");
  t.strictSame(
    steps.map(({ seq, attr }) => [seq, (attr as Json).was]),
    [
      [hour.seq - 1, stood.time],
      [last.seq - 1, hour.time],
    ],
  );
  t.equal(await ledger.at(last.time), "04000000");
  t.equal(await ledger.at(hour.time), "04000000", "the last event that is stamped at or before it");
  t.match(await ledger.send("GET", "/sessions/1"), { id: 1 }, "leases have a clock of their own");
  const end = await ledger.put("05000000");
  const file = join(ledger.data, "..", "export.ndjson");
  writeFileSync(file, (await mapledger("replay", ledger.data)).stdout);
  const seqs = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, at) => from + at);
  for (const source of [ledger.url, ledger.data, file]) {
    const replayed = async (...range: readonly string[]): Promise<unknown[]> => {
      const { stdout } = await mapledger("replay", source, ...range);
      return stdout.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line).seq]));
    };
    t.strictSame(await replayed("--until", last.time), seqs(1, last.seq), source);
    t.strictSame(await replayed("--since", end.time), [end.seq], source);
  }
  await ledger.stop();
  t.match(await mapledger("verify", ledger.data), { code: 0 });
});

test("what is done to a stopped log tells of its clock, too; archived times that were ahead hide nothing", async (t) => {
  const ledger = new Ledger(t);
  ledger.ahead(YEAR);
  await ledger.start();
  await ledger.create();
  const early = await ledger.put("01000000");
  await ledger.stop();
  const from = ledger.now();
  ledger.ahead(0);
  const archived = await mapledgerIn(ledger.environment, "archive", "--before", from, "--data", ledger.data);
  t.match(archived, { code: 0 });
  const [there, away] = [join(ledger.data, "archive"), `${ledger.data}.away`];
  renameSync(there, away);
  await ledger.start();
  const [step, archive] = await ledger.events("");
  t.match(step, { seq: early.seq + 1, cmd: "CLOCK_STEP", caller: "mapledger" });
  t.match(archive, { cmd: "ARCHIVE", time: step?.time as string });
  const late = await ledger.put("02000000");
  t.equal(await ledger.at(late.time), "02000000");
  t.equal(await ledger.at(archive?.time as string), "01000000");
  t.equal(await ledger.at("2001-01-01T00:00:00Z"), "urn:mapledger:problem:archived");
  t.equal((await ledger.events(`since=${step?.time}`)).length, 3);
  await ledger.stop();
  renameSync(away, there);
  t.match(await mapledger("verify", ledger.data), { code: 0 });
});

test("verify: a time that steps back is told of by a CLOCK_STEP that says so", async (t) => {
  const ledger = new Ledger(t);
  ledger.ahead(YEAR);
  await ledger.start();
  await ledger.create();
  ledger.ahead(0);
  await ledger.put("01000000");
  await ledger.stop();
  const { seq, attr } = new Sqlite(join(ledger.data, "events.sqlite"))
    .prepare("SELECT seq, attr FROM events WHERE cmd = 4131")
    .get() as { seq: number; attr: string };
  const told = JSON.parse(attr);
  const changed = async (text: object, wrong: RegExp): Promise<void> => {
    const db = new Sqlite(join(ledger.data, "events.sqlite"));
    db.prepare("UPDATE events SET attr = ? WHERE seq = ?").run(JSON.stringify(text), seq);
    db.close();
    const { code, stdout } = await mapledger("verify", ledger.data);
    t.equal(code, 1);
    t.match(stdout, wrong);
  };
  await changed({ ...told, is: told.was }, /the clock step that it records does not end at its own time/);
  await changed({ ...told, was: told.is }, /does not start at the time of the previous event/);
});
