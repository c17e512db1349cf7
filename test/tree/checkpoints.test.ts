import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Sqlite from "better-sqlite3";
import { type Test, test } from "tap";
import { type Checkpoint, openNote, readCheckpoint, readVkey } from "../../src/tlog/note.ts";
import { mapledger } from "../support/cli.ts";
import { until } from "../support/ledger.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

type Json = Record<string, unknown>;

/** A data directory, and what its service is asked. */
class Data {
  readonly folder = mkdtempSync(join(tmpdir(), "mapledger-checkpoints-"));
  #service: ServiceProcess | null = null;

  constructor(t: Test) {
    t.teardown(async () => {
      await this.#service?.end("SIGKILL");
      rmSync(this.folder, { recursive: true });
    });
  }

  file(name: string): string {
    return join(this.folder, name);
  }

  async start(events: number, seconds: number, more: Record<string, string> = {}): Promise<void> {
    this.#service = await startService({
      MAPLEDGER_DATA: this.folder,
      MAPLEDGER_MIRROR: "off",
      MAPLEDGER_CHECKPOINT_EVENTS: String(events),
      MAPLEDGER_CHECKPOINT_SECONDS: String(seconds),
      ...more,
    });
  }

  async stop(): Promise<void> {
    await this.#service?.end("SIGTERM");
  }

  get lines(): readonly Json[] {
    return this.#service?.lines ?? [];
  }

  async ask(path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(`${this.#service?.url}${path}`);
    return { status: response.status, text: await response.text() };
  }

  async json(path: string): Promise<Json> {
    return JSON.parse((await this.ask(path)).text) as Json;
  }

  /** A command that is an event. */
  async openSession(): Promise<void> {
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${this.#service?.url}/v1/sessions`, { method: "POST", headers, body: "{}" });
    if (response.status !== 201) throw new Error(`opening a session: ${response.status} ${await response.text()}`);
  }

  async openSessions(count: number): Promise<void> {
    for (let at = 0; at < count; at++) await this.openSession();
  }

  async recorded(): Promise<Json[]> {
    return (await this.json("/v1/events?cmd=CHECKPOINT")).events as Json[];
  }

  /** The checkpoint that an event has, if it is signed by the log's key. */
  async signed(event: Json): Promise<Checkpoint> {
    const { vkey } = await this.json("/v1/log");
    const { note, size } = event.attr as { note: string; size: number };
    const opened = openNote(note, readVkey(vkey as string) as never);
    if ("wrong" in opened) throw new Error(opened.wrong);
    const checkpoint = readCheckpoint(opened.text) as Checkpoint;
    if (checkpoint.size !== size) throw new Error(`the note has size ${checkpoint.size}, the event says ${size}`);
    return checkpoint;
  }

  rows(): { seq: number; cmd: number; attr: string | null }[] {
    const db = new Sqlite(this.file("events.sqlite"), { readonly: true });
    const rows = db.prepare("SELECT seq, cmd, attr FROM events ORDER BY seq").all();
    db.close();
    return rows as { seq: number; cmd: number; attr: string | null }[];
  }

  run(sql: string): void {
    const db = new Sqlite(this.file("events.sqlite"));
    db.exec(sql);
    db.close();
  }

  removeTree(): void {
    for (const suffix of ["", "-wal", "-shm"]) rmSync(this.file(`tree.sqlite${suffix}`), { force: true });
  }
}

const CHECKPOINT = 4124;
const TREE_BEGIN = 4125;

test("a checkpoint is signed after so many events: an event, a log line and a file have it", async (t) => {
  const data = new Data(t);
  await data.start(5, 0);
  await data.openSessions(4);
  await sleep(700);
  t.same(await data.recorded(), [], "four are not enough");
  await data.openSession();
  await until("an event tells of the checkpoint", async () => (await data.recorded()).length === 1);
  const [event = {}] = await data.recorded();
  t.match(event, { seq: 6, caller: "mapledger", attr: { size: 5 } });
  t.equal((await data.signed(event)).size, 5);
  const { note } = event.attr as { note: string };
  t.equal(readFileSync(data.file("checkpoint"), "utf8"), note);
  const line = (): Json | undefined => data.lines.find(({ msg }) => /^a checkpoint/.test(String(msg)));
  await until("a log line tells of it", async () => line() !== undefined);
  t.match(line(), { level: 30, seq: 6, size: 5, note, msg: "a checkpoint of 5 events was signed" });
  t.match(await data.json("/v1/log"), { last_seq: 6, signed_size: 5, refusal: null });
});

test("a log in which nothing happens does not grow by checkpoints, whatever is asked for", async (t) => {
  const data = new Data(t);
  await data.start(1, 1);
  await data.openSession();
  await until("an event tells of the checkpoint", async () => (await data.recorded()).length === 1);
  for (let at = 0; at < 12; at++) {
    t.equal((await data.ask("/checkpoint")).status, 200);
    await sleep(200);
  }
  t.equal((await data.json("/v1/log")).last_seq, 2);
  await data.openSession();
  await until("there is another one", async () => (await data.recorded()).length === 2);
  t.equal((await data.signed((await data.recorded()).at(-1) ?? {})).size, 3);
});

test("a checkpoint is signed after so many seconds, also if others ask for one meanwhile", async (t) => {
  const data = new Data(t);
  await data.start(0, 1);
  await data.openSession();
  t.match(await data.ask("/checkpoint"), { status: 200, text: /\n1\n/ });
  await until("an event tells of it", async () => (await data.recorded()).length === 1);
  t.equal((await data.signed((await data.recorded())[0] ?? {})).size, 1);
});

test("the last event of a stop tells of a checkpoint of all others, and there is none where nothing has come", async (t) => {
  const data = new Data(t);
  await data.start(0, 3600);
  await data.openSessions(3);
  await data.stop();
  const rows = data.rows();
  t.match(rows.at(-1), { seq: 4, cmd: CHECKPOINT, attr: /"size":3,/ });
  t.match(readFileSync(data.file("checkpoint"), "utf8"), "\n3\n");
  await data.start(0, 3600);
  await data.stop();
  t.same(data.rows(), rows);
  const { code, stdout } = await mapledger("verify", data.folder);
  t.equal(code, 0, stdout);
});

test("with both settings 0 nothing is signed that nobody asks for", async (t) => {
  const data = new Data(t);
  await data.start(0, 0);
  await data.openSession();
  await data.stop();
  t.equal(data.rows().length, 1);
  t.notOk(existsSync(data.file("checkpoint")));
});

test("a tree that is missing is not begun anew by itself; a command does it, and an event says so", async (t) => {
  const data = new Data(t);
  await data.start(0, 3600);
  await data.openSessions(2);
  await data.stop();
  data.removeTree();
  await data.start(1, 1);
  await data.openSession();
  const refusal = "tree.sqlite is missing: a checkpoint of size 2 was signed";
  for (const path of ["/checkpoint", "/v1/events/2/proof", "/tile/0/000.p/1"]) {
    const { status, text } = await data.ask(path);
    t.match([status, JSON.parse(text)], [503, { type: "urn:mapledger:problem:log-contradicted", detail: refusal }]);
  }
  t.match(await data.json("/v1/log"), { refusal, last_seq: 4, vkey: "" });
  await data.stop();
  t.notOk(existsSync(data.file("tree.sqlite")), "none was made");
  const began = await mapledger("tree", "begin-anew", "--data", data.folder);
  t.equal(began.code, 0, began.stderr);
  t.match(
    began.stdout,
    `event 5: the tree was begun anew: ${refusal}\nthe new tree continues the checkpoint of size 2\n`,
  );
  t.match(data.rows().at(-1), { seq: 5, cmd: TREE_BEGIN, attr: /"continues":true/ });
  await data.start(0, 3600);
  t.match(await data.ask("/checkpoint"), { status: 200, text: /\n5\n/ });
  await data.stop();
  const { code, stdout } = await mapledger("verify", data.folder);
  t.equal(code, 0, stdout);
});

test("a tree of other events than those that were signed gets another origin, and an event says so", async (t) => {
  const data = new Data(t);
  const setting = { MAPLEDGER_ORIGIN: "ledger.example.org" };
  await data.start(0, 3600, setting);
  await data.openSessions(3);
  await data.stop();
  data.run("UPDATE events SET caller = 'somebody' WHERE seq = 2");
  await data.start(0, 3600, setting);
  t.match(await data.json("/v1/log"), { refusal: /^event 2 in the log is not/, origin: "ledger.example.org" });
  const running = await mapledger("tree", "begin-anew", "--data", data.folder);
  t.match(running, { code: 1, stderr: /another mapledger is using it: stop it first/ });
  await data.stop();
  const began = await mapledger("tree", "begin-anew", "--data", data.folder, "--origin", "ledger.example.org");
  t.equal(began.code, 0, began.stderr);
  t.match(
    began.stdout,
    /\nthe new tree does not continue the checkpoint of size 3: .*\norigin ledger\.example\.org\/[0-9a-f]{8}\n/,
  );
  t.match(began.stdout, /\nthe former tree is kept as tree-until-5\.sqlite\n/);
  t.ok(existsSync(data.file("tree-until-5.sqlite")));
  t.match(data.rows().at(-1), { cmd: TREE_BEGIN, attr: /"reason":"event 2 in the log is not .*"continues":false/ });
  await data.start(0, 3600, setting);
  t.match(await data.ask("/checkpoint"), { status: 200, text: /^ledger\.example\.org\/[0-9a-f]{8}\n5\n/ });
  await data.stop();
  const again = await mapledger("tree", "begin-anew", "--data", data.folder, "--origin", "ledger.example.org");
  t.match(again, { code: 1, stderr: "mapledger: the tree is not begun anew: it is sound\n" });
});
