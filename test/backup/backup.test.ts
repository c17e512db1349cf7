import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t, { type Test } from "tap";
import { CMD } from "../../src/abi/service.ts";
import { makeBackup } from "../../src/backup/make.ts";
import type { Manifest } from "../../src/backup/manifest.ts";
import { restoreBackup } from "../../src/backup/restore.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import { readProof } from "../../src/log/tlog_proof.ts";
import { holdLock } from "../../src/sqlite/lock.ts";
import { readVkey } from "../../src/tlog/note.ts";
import { mapledger } from "../support/cli.ts";
import { HOST } from "../support/commands.ts";
import { dump, foldLog } from "../support/fold.ts";
import { call, Load, prepare } from "../support/load.ts";
import { startService } from "../support/service_process.ts";

const CLIENTS = 8;

/** A folder of its own, gone after the test. */
function folderOf(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), "mapledger-backup-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const settings = (data: string): Record<string, string> => ({
  MAPLEDGER_DATA: data,
  MAPLEDGER_MIRROR: "off",
  MAPLEDGER_CPUS: String(HOST.possibleCpus),
});

/** A data directory with a few events, its service stopped. */
async function ledger(t: Test): Promise<{ folder: string; data: string; backup: string; restored: string }> {
  const folder = folderOf(t);
  const data = join(folder, "data");
  const service = await startService(settings(data));
  await prepare(service.url);
  await service.end("SIGTERM");
  return { folder, data, backup: join(folder, "backup"), restored: join(folder, "restored") };
}

function rows(data: string): unknown[] {
  const db = new Sqlite(join(data, "events.sqlite"), { readonly: true });
  const all = db.prepare("SELECT * FROM events ORDER BY seq").all();
  db.close();
  return all;
}

t.test("backup under load has every event up to its seq; a start from it has the state they add up to", async (t) => {
  const folder = folderOf(t);
  const data = join(folder, "data");
  const service = await startService(settings(data));
  await prepare(service.url);
  t.ok((await fetch(`${service.url}/checkpoint`)).ok, "the tree is there, and its key");
  const key = readFileSync(join(data, "log.key"), "utf8");
  const load = new Load(service.url, CLIENTS);
  const manifests: Manifest[] = [];
  for (const name of ["first", "second"]) {
    await load.more(100);
    const ran = await mapledger("backup", join(folder, name), "--data", data);
    t.equal(ran.code, 0, ran.stderr);
    const manifest = JSON.parse(readFileSync(join(folder, name, "manifest.json"), "utf8")) as Manifest;
    t.match(ran.stdout, `up to event ${manifest.seq} `);
    manifests.push(manifest);
  }
  await load.stop();
  await service.end("SIGKILL");
  const all = rows(data);
  t.ok((manifests[0]?.seq ?? 0) > 100, `the first backup has ${manifests[0]?.seq} of ${all.length} events`);
  t.ok((manifests[1]?.seq ?? 0) > (manifests[0]?.seq ?? 0) && load.answered + 5 === all.length);
  const seq = manifests[1]?.seq ?? 0;
  const restored = join(folder, "restored");
  const ran = await mapledger("restore-backup", join(folder, "second"), "--data", restored);
  t.equal(ran.code, 0, ran.stderr);
  t.strictSame(rows(restored).slice(0, -1), all.slice(0, seq), `all ${seq} events of the backup`);
  t.equal(readFileSync(join(restored, "log.key"), "utf8"), key);
  const again = await startService(settings(restored));
  const { entries } = await call(again.url, "GET", "/v1/maps/name:kept");
  t.match(await call(again.url, "GET", "/v1/log"), { refusal: null }, "its tree is that of its log");
  t.equal(await again.end("SIGTERM"), 0);
  const store = new LmdbStore(join(restored, "state"), manifests[1]?.log as string);
  const cells = dump(store);
  await store.close();
  t.strictSame(cells, foldLog(join(restored, "events.sqlite"), seq + 1, HOST), "the state is what the events give");
  t.equal(entries, cells.filter(([key]) => key.startsWith("e\0\0\0\x01")).length);
  t.equal(rows(restored).length, seq + 1, "asking leaves no event");
});

t.test("a ledger that was restored has the same log and a life of its own, in which nothing is wrong", async (t) => {
  const { folder, data, backup, restored } = await ledger(t);
  const facts = (of: string): Record<string, string> => {
    const db = new Sqlite(join(of, "events.sqlite"), { readonly: true });
    const all = db.prepare("SELECT name, value FROM ledger").all() as { name: string; value: string }[];
    db.close();
    return Object.fromEntries(all.map(({ name, value }) => [name, value]));
  };
  await makeBackup(data, backup, () => {});
  const { life, ...rest } = facts(data);
  t.ok(life);
  t.same(facts(backup), { life, ...rest }, "the backup is the ledger as it was");
  const again = join(folder, "again");
  for (const target of [restored, again]) await restoreBackup(backup, target, () => {});
  const lives = [life, facts(restored).life, facts(again).life];
  t.equal(new Set(lives).size, 3);
  const { branch, ...others } = facts(restored);
  t.same(
    [branch, { ...others, life }],
    [lives[1]?.slice(0, 8), { life, ...rest }],
    "and a branch of its own, nothing else",
  );
  t.same(
    readdirSync(restored).sort(),
    ["lock.sqlite", ...readdirSync(backup)].filter((name) => name !== "manifest.json").sort(),
  );
  const service = await startService(settings(restored));
  t.match(await call(service.url, "GET", "/v1/log"), { refusal: null });
  t.equal(await service.end("SIGTERM"), 0);
  t.equal(facts(restored).life, lives[1], "a start leaves it");
  t.match(await mapledger("verify", restored), { code: 0, stdout: /^events /m });
});

t.test("a ledger that was restored continues a checkpoint under another origin; old signatures hold", async (t) => {
  const { data, backup, restored } = await ledger(t);
  const events = { MAPLEDGER_ORIGIN: "ledger.example.org", MAPLEDGER_CHECKPOINT_EVENTS: "1" };
  let service = await startService({ ...settings(data), ...events });
  await call(service.url, "POST", "/v1/sessions", {});
  t.equal(await service.end("SIGTERM"), 0);
  const note = readFileSync(join(data, "checkpoint"), "utf8");
  const made = await mapledger("backup", backup, "--data", data);
  t.match(made.stdout, /\nthe backup contains log\.key: /);
  t.match(JSON.parse(readFileSync(join(backup, "manifest.json"), "utf8")), { has_key: true });
  const ran = await mapledger("restore-backup", backup, "--data", restored);
  t.equal(ran.code, 0, ran.stderr);
  const { seq, cmd, attr } = rows(restored).at(-1) as { seq: number; cmd: number; attr: string };
  t.same([seq, cmd], [rows(data).length + 1, CMD.BACKUP_RESTORE]);
  const { continues, branch } = JSON.parse(attr) as { continues: string; branch: string };
  t.equal(continues, note);
  service = await startService({ ...settings(restored), ...events });
  const checkpoint = await (await fetch(`${service.url}/checkpoint`)).text();
  t.match(checkpoint, new RegExp(`^ledger\\.example\\.org/${branch}\n${seq}\n`));
  const { vkey, refusal } = await call(service.url, "GET", "/v1/log");
  t.equal(refusal, null);
  const proof = await (await fetch(`${service.url}/v1/events/1/proof`)).text();
  t.match(readProof(proof, readVkey(vkey as string) as never), { event: { seq: 1 } }, "also of events before");
  t.equal(await service.end("SIGTERM"), 0);
  const verified = await mapledger("verify", restored, "--key", vkey as string);
  t.equal(verified.code, 0, verified.stdout);
  const db = new Sqlite(join(restored, "tree.sqlite"));
  db.exec(`INSERT INTO signers SELECT 0, origin, '${vkey}' FROM tree`);
  db.close();
  t.match(await mapledger("verify", restored), { code: 1, stdout: /names the former key .*, which no event names/ });
});

t.test("every file of a data directory is known to be kept or derived", async (t) => {
  const { data, backup } = await ledger(t);
  await makeBackup(data, backup, () => {});
  // The owner's token opens the service that runs: what is restored gets one of its own.
  const derived = ["history", "index", "lock.sqlite", "reserve", "state", "token"];
  const kept = readdirSync(backup).filter((name) => name !== "manifest.json");
  const found = readdirSync(data).filter((name) => !/-(wal|shm)$/.test(name));
  t.strictSame(
    found.filter((name) => !derived.includes(name) && !kept.includes(name)),
    [],
  );
});

t.test("a backup that cannot be made says why in one line, and leaves nothing", async (t) => {
  const { folder, data, backup } = await ledger(t);
  mkdirSync(backup);
  const isOneLine = async (words: string[], why: RegExp): Promise<void> => {
    const { code, stderr } = await mapledger(...words);
    t.equal(code, 1);
    t.match(stderr, why);
    t.match(stderr, /^[^\n]+\n$/);
  };
  await isOneLine(
    ["backup", backup, "--data", join(folder, "no")],
    /no is not a data directory: it has no events\.sqlite/,
  );
  t.equal((await mapledger("backup", backup, "--data", data)).code, 0, "an empty directory will do");
  await isOneLine(["backup", backup, "--data", data], /backup is not empty/);
  writeFileSync(join(folder, "file"), "");
  await isOneLine(["backup", join(folder, "file", "b"), "--data", data], /ENOTDIR|EEXIST/);
  t.strictSame(readdirSync(folder).sort(), ["backup", "data", "file"]);
  t.match(await mapledger("backup"), { code: 2, stderr: /missing required argument 'dir'/ });
});

t.test("a full disk ends a backup, which leaves nothing", async (t) => {
  const { folder, data } = await ledger(t);
  const disk = join(folder, "disk");
  mkdirSync(disk);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], { stdio: "pipe" });
  } catch (error) {
    t.pass("a small disk", { skip: `a tmpfs cannot be mounted: ${(error as Error).message.trim()}` });
    return;
  }
  t.teardown(() => execFileSync("umount", [disk]));
  const { code, stderr } = await mapledger("backup", join(disk, "b"), "--data", data);
  t.equal(code, 1);
  t.match(stderr, /^mapledger: backing up .* to .*: the disk is full: it has \d+ bytes left, .*\n$/);
  t.strictSame(readdirSync(disk), []);
});

t.test("a damaged backup is not restored, and says which file", async (t) => {
  const { backup, data, restored } = await ledger(t);
  await makeBackup(data, backup, () => {});
  const log = join(backup, "events.sqlite");
  const whole = readFileSync(log);
  const manifest = readFileSync(join(backup, "manifest.json"), "utf8");
  const refuses = async (why: RegExp): Promise<void> => {
    const { code, stderr } = await mapledger("restore-backup", backup, "--data", restored);
    t.equal(code, 1);
    t.match(stderr, why);
    t.notOk(existsSync(restored));
  };
  const flipped = Buffer.from(whole);
  flipped[whole.length - 7] = (flipped[whole.length - 7] as number) ^ 1;
  writeFileSync(log, flipped);
  await refuses(/damaged: the SHA-256 of events\.sqlite differs/);
  truncateSync(log, 4096);
  await refuses(/damaged: events\.sqlite has 4096 of \d+ bytes/);
  rmSync(log);
  await refuses(/damaged: events\.sqlite is missing/);
  writeFileSync(log, whole);
  writeFileSync(join(backup, "manifest.json"), manifest.replace(/"seq": \d+/, '"seq": 99'));
  await refuses(/damaged: it has log .* up to event 5, its manifest names log .* up to event 99/);
  writeFileSync(join(backup, "manifest.json"), manifest.replace("events.sqlite", "../events.sqlite"));
  await refuses(/not a backup: its manifest\.json does not have/);
  writeFileSync(join(backup, "manifest.json"), "{");
  await refuses(/not a backup: its manifest\.json does not have/);
  rmSync(join(backup, "manifest.json"));
  await refuses(/not a backup: reading its manifest\.json/);
});

t.test("a data directory that is in use or not empty is not restored to", async (t) => {
  const { backup, data, restored } = await ledger(t);
  await makeBackup(data, backup, () => {});
  const before = rows(data);
  const unlock = holdLock(join(data, "lock.sqlite"), data);
  t.match(await mapledger("restore-backup", backup, "--data", data), {
    code: 1,
    stderr: /another mapledger is using it/,
  });
  unlock();
  t.match(await mapledger("restore-backup", backup, "--data", data), { code: 1, stderr: /is not empty: it has/ });
  t.strictSame(rows(data), before);
  mkdirSync(restored);
  holdLock(join(restored, "lock.sqlite"), restored)();
  t.match(
    await mapledger("restore-backup", backup, "--data", restored),
    { code: 0 },
    "a lock that was left is no matter",
  );
  t.strictSame(rows(restored).slice(0, -1), before);
});

t.test("a backup whose log would do more than keep events is not restored, and such a log is not served", async (t) => {
  const { data, backup, restored } = await ledger(t);
  const add = (sql: string): void => {
    const db = new Sqlite(join(data, "events.sqlite"));
    db.exec(sql);
    db.close();
  };
  add("CREATE INDEX by_caller ON events (caller)");
  await (await startService(settings(data))).end("SIGTERM");
  add("CREATE TRIGGER lost AFTER INSERT ON events BEGIN DELETE FROM events WHERE seq < new.seq; END");
  t.equal((await mapledger("backup", backup, "--data", data)).code, 0);
  const refused = /it has the trigger "lost" on "events", which no migration makes/;
  t.match(await mapledger("restore-backup", backup, "--data", restored), { code: 1, stderr: refused });
  t.equal(existsSync(restored), false);
  await t.rejects(startService(settings(data)), /which no migration makes/);
});
