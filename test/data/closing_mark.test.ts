import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t, { type Test } from "tap";
import { mapledger } from "../support/cli.ts";
import { type ServiceProcess, startService } from "../support/service_process.ts";

const LATE = new URL("../support/late_tree.ts", import.meta.url).href;

class Data {
  readonly folder = mkdtempSync(join(tmpdir(), "mapledger-taken-up-"));
  /** The tree's thread comes late until there is this file. */
  readonly flag = join(this.folder, "come");
  #service: ServiceProcess | null = null;

  constructor(t: Test) {
    t.teardown(async () => {
      await this.end("SIGKILL");
      rmSync(this.folder, { recursive: true });
    });
  }

  async start(isLate = false): Promise<void> {
    const late = { NODE_OPTIONS: `--import=${LATE}`, LATE_TREE: this.flag };
    const settings = { MAPLEDGER_DATA: this.folder, MAPLEDGER_MIRROR: "off", ...(isLate && late) };
    this.#service = await startService(settings);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    await this.#service?.end(signal);
  }

  /** What is an event. */
  async openSession(): Promise<void> {
    const headers = { "content-type": "application/json" };
    const response = await fetch(`${this.#service?.url}/v1/sessions`, { method: "POST", headers, body: "{}" });
    if (response.status !== 201) throw new Error(await response.text());
  }

  async checkpoint(): Promise<number> {
    return (await fetch(`${this.#service?.url}/checkpoint`)).status;
  }

  /** Log lines of events that no service has written. */
  get added(): unknown[] {
    return (this.#service?.lines ?? []).map(({ msg }) => msg).filter((line) => /came into the log/.test(String(line)));
  }
}

/** Appends a copy of the log's last event, as somebody may who can write to the file. */
function append(data: string): void {
  const db = new Sqlite(join(data, "events.sqlite"));
  const columns = "time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out";
  db.exec(`INSERT INTO events SELECT seq + 1, ${columns} FROM events ORDER BY seq DESC LIMIT 1`);
  db.close();
}

t.test("commands that come before the tree's thread are a run's, wherever the run ends", async (t) => {
  const data = new Data(t);
  await data.start();
  await data.openSession();
  await data.end("SIGTERM");

  await data.start(true);
  await data.openSession();
  await data.end("SIGKILL");
  const killed = await mapledger("verify", data.folder);
  t.equal(killed.code, 0, killed.stdout);

  await data.start(true);
  await data.openSession();
  writeFileSync(data.flag, "");
  t.equal(await data.checkpoint(), 200);
  t.same(data.added, []);
  await data.end("SIGTERM");
  t.match(await mapledger("verify", data.folder), { code: 0 });
});

t.test("what came while the service was stopped is told of, by whoever takes the log up", async (t) => {
  const data = new Data(t);
  await data.start();
  await data.openSession();
  await data.end("SIGTERM");
  append(data.folder);
  const said = /^mapledger: event \d+ came into the log after the service had stopped at \d+\n/;
  t.match(await mapledger("verify", data.folder), {
    code: 1,
    stdout: /came into the log after the service had stopped/,
  });
  t.match(await mapledger("archive", "--before", "1", "--data", data.folder), { stderr: said }, "nothing is written");
  await data.start();
  t.match(data.added, [/^event \d+ came into the log after the service had stopped at \d+$/]);
  await data.end("SIGTERM");
  append(data.folder);
  t.match(await mapledger("key", "rotate", "--data", data.folder), { code: 0, stderr: said });
});
