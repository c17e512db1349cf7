import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import t, { type Test } from "tap";
import { CMD } from "../../src/abi/service.ts";
import { makeBackup } from "../../src/backup/make.ts";
import { restoreBackup } from "../../src/backup/restore.ts";
import { makeLogKey, readLogKey } from "../../src/data/log_key.ts";
import { openTree } from "../../src/data/open_tree.ts";
import { StoppedLog } from "../../src/data/stopped_log.ts";
import { notedCheckpoint, openNote, readVkey, signerOf, type Verifier } from "../../src/tlog/note.ts";
import type { LogTree } from "../../src/tree/log_tree.ts";
import { HERE } from "../../src/verify/derived_process.ts";
import { beginTree } from "../../src/verify/new_tree.ts";
import { verify } from "../../src/verify/verify.ts";
import { mapledger } from "../support/cli.ts";
import { bare } from "../support/service_process.ts";
import { writeLog } from "../support/write_log.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const KILL_AT = new URL("../support/kill_at.ts", import.meta.url).href;
const root = mkdtempSync(join(tmpdir(), "mapledger-key-"));
t.teardown(() => rmSync(root, { recursive: true }));

/** A log that its first key has signed. */
const original = join(root, "original");
await writeLog(original);
const first = signed(original);

interface Signed {
  readonly vkey: string;
  readonly note: string;
  readonly size: number;
}

function withTree<Answer>(data: string, use: (tree: LogTree) => Answer): Answer {
  const tree = openTree(data, "");
  while (tree.catchUp());
  const answer = use(tree);
  tree.close(tree.size === tree.lastSeq());
  return answer;
}

function signed(data: string): Signed {
  return withTree(data, (tree) => {
    const checkpoint = tree.checkpoint();
    if ("refused" in checkpoint) throw new Error(checkpoint.refused);
    return { vkey: tree.status.vkey, note: checkpoint.note, size: checkpoint.size };
  });
}

function copied(t: Test, from = original): string {
  const data = mkdtempSync(join(root, "data-"));
  cpSync(from, data, { recursive: true });
  t.teardown(() => rmSync(data, { recursive: true }));
  return data;
}

function rotations(data: string): { seq: number; attr: { signer: string; vkey: string } }[] {
  const db = new Sqlite(join(data, "events.sqlite"), { readonly: true });
  const rows = db.prepare("SELECT seq, attr FROM events WHERE cmd = ? ORDER BY seq").all(CMD.KEY_ROTATE);
  db.close();
  return (rows as { seq: number; attr: string }[]).map(({ seq, attr }) => ({ seq, attr: JSON.parse(attr) }));
}

function append(data: string): void {
  const stopped = StoppedLog.open(data);
  stopped.append({ cmd: CMD.INTERFACES, attr: { ifindexes: [1] } });
  stopped.close();
}

const opens = (note: string, vkey: string): boolean => "text" in openNote(note, readVkey(vkey) as Verifier);

/** Everything that there is to find wrong, but for events that came into a stopped log, as these tests' do. */
async function faults(data: string, vkey: string): Promise<string[]> {
  const trusted = [readVkey(vkey) as Verifier];
  const { findings } = await verify({ data, archive: null, trusted, outside: [], checks: HERE, progress() {} });
  return findings.map(({ text }) => text).filter((text) => !text.includes("after the service had stopped"));
}

t.test("key rotate makes a key that signs from its event on, and both keys sign what hands over", async (t) => {
  const data = copied(t);
  const before = readFileSync(join(data, "log.key"), "utf8");
  const { code, stdout, stderr } = await mapledger("key", "rotate", "--data", data);
  t.equal(code, 0, stderr);
  const [{ seq, attr } = { seq: 0, attr: { signer: "", vkey: "" } }] = rotations(data);
  t.equal(attr.signer, first.vkey);
  t.equal(stdout, `event ${seq}: a new key signs the log from now on\nformer ${first.vkey}\nkey    ${attr.vkey}\n`);
  t.not(readFileSync(join(data, "log.key"), "utf8"), before, "the former key is gone");
  t.notOk(existsSync(join(data, "log.key.next")));
  t.equal(statSync(join(data, "log.key")).mode & 0o777, 0o600);
  const handed = readFileSync(join(data, "checkpoint"), "utf8");
  t.equal(notedCheckpoint(handed)?.size, seq, "the event is in it");
  t.same([opens(handed, first.vkey), opens(handed, attr.vkey)], [true, true]);
  append(data);
  const next = signed(data);
  t.equal(next.vkey, attr.vkey);
  t.same([opens(next.note, first.vkey), opens(next.note, attr.vkey)], [false, true]);
  t.same(await faults(data, attr.vkey), []);
  // What was kept elsewhere before stays verifiable, by the key that had signed it.
  const kept = join(data, "kept");
  writeFileSync(kept, first.note);
  const words = ["verify", data, "--checkpoint", kept, "--key", attr.vkey];
  t.match(await mapledger(...words), { code: 1, stderr: /not signed by/ });
  const outside = new RegExp(`outside      events 1 to ${first.size} are unchanged`);
  t.match((await mapledger(...words, "--key", first.vkey)).stdout, outside);
  // Another time.
  t.equal((await mapledger("key", "rotate", "--data", data)).code, 0);
  append(data);
  t.equal(signed(data).vkey, rotations(data)[1]?.attr.vkey);
  t.same(await faults(data, signed(data).vkey), []);
});

t.test("key rotate is refused while a service runs, and where nothing is signed any more", async (t) => {
  const data = copied(t);
  const running = StoppedLog.open(data);
  t.match(await mapledger("key", "rotate", "--data", data), {
    code: 1,
    stderr: /another mapledger is using it: stop it first/,
  });
  running.close();
  const db = new Sqlite(join(data, "events.sqlite"));
  db.exec("UPDATE events SET caller = 'x' WHERE seq = (SELECT max(seq) FROM events)");
  db.close();
  t.match(await mapledger("key", "rotate", "--data", data), {
    code: 1,
    stderr: /^mapledger: no checkpoint is signed any more: event/,
  });
  t.same([rotations(data), existsSync(join(data, "log.key.next"))], [[], false]);
});

t.test("killed anywhere, one of the keys signs, and the log says which", async (t) => {
  const seen = new Set<string>();
  for (const call of ["writeFileSync", "renameSync", "fsyncSync"])
    for (let at = 1; ; at++) {
      const data = copied(t);
      const child = spawn(process.execPath, ["--import", KILL_AT, MAIN, "key", "rotate", "--data", data], {
        stdio: "ignore",
        env: { ...bare(process.env), KILL_AT: call, KILL_AT_CALL: String(at) },
      });
      const [, signal] = await once(child, "exit");
      if (signal === null) break;
      const [rotation] = rotations(data);
      const next = existsSync(join(data, "log.key.next"));
      const lying = readLogKey(join(data, "log.key"));
      const isFirst = lying !== null && signerOf(readVkey(first.vkey)?.name ?? "", lying).vkey === first.vkey;
      seen.add(`event ${rotation !== undefined}, next key ${next}, former key ${isFirst}`);
      const { vkey, note } = signed(data);
      t.equal(vkey, rotation?.attr.vkey ?? first.vkey, `${call} ${at}`);
      t.ok(opens(note, vkey), `${call} ${at}`);
      t.same(await faults(data, vkey), [], `${call} ${at}`);
    }
  t.same([...seen].sort(), [
    "event false, next key false, former key true",
    "event false, next key true, former key true",
    "event true, next key false, former key false",
    "event true, next key true, former key true",
  ]);
});

t.test("an event whose key the tree has not been told of yet is obeyed by the next who opens it", async (t) => {
  const data = copied(t);
  const { vkey } = signerOf(readVkey(first.vkey)?.name ?? "", makeLogKey(join(data, "log.key.next")));
  const stopped = StoppedLog.open(data);
  const seq = stopped.append({ cmd: CMD.KEY_ROTATE, attr: { signer: first.vkey, vkey } });
  stopped.close();
  t.match(signed(data), { vkey, size: seq });
  t.same([opens(signed(data).note, first.vkey), opens(signed(data).note, vkey)], [true, true]);
  t.notOk(existsSync(join(data, "log.key.next")));
  t.same(await faults(data, vkey), []);
});

t.test("a change of keys that was cut short goes into a backup, and is finished where that is restored", async (t) => {
  for (const call of ["2", "3"]) {
    const data = copied(t);
    const child = spawn(process.execPath, ["--import", KILL_AT, MAIN, "key", "rotate", "--data", data], {
      stdio: "ignore",
      env: { ...bare(process.env), KILL_AT: "renameSync", KILL_AT_CALL: call },
    });
    t.equal((await once(child, "exit"))[1], "SIGKILL");
    t.ok(existsSync(join(data, "log.key.next")), `rename ${call}`);
    const backup = join(data, "backup");
    t.equal((await makeBackup(data, backup, () => {})).has_key, true);
    const restored = join(data, "restored");
    await restoreBackup(backup, restored, () => {});
    const { vkey } = signed(restored);
    t.equal(vkey.split("+")[2], rotations(data)[0]?.attr.vkey.split("+")[2]);
    t.match(vkey, /^mapledger\/[0-9a-f-]{36}\/[0-9a-f]{8}\+/);
    t.same(await faults(restored, vkey), []);
  }
});

t.test("a next key that is lost is told of, and beginning the tree anew takes the key that lies there", async (t) => {
  const data = copied(t);
  const child = spawn(process.execPath, ["--import", KILL_AT, MAIN, "key", "rotate", "--data", data], {
    stdio: "ignore",
    env: { ...bare(process.env), KILL_AT: "renameSync", KILL_AT_CALL: "2" },
  });
  await once(child, "exit");
  // As if the tree had not been handed over: an older copy of it was put back, and the next key was not.
  for (const suffix of ["", "-wal", "-shm"]) rmSync(join(data, `tree.sqlite${suffix}`), { force: true });
  cpSync(join(original, "tree.sqlite"), join(data, "tree.sqlite"));
  rmSync(join(data, "log.key.next"));
  const refusal = "neither log.key nor log.key.next is the key that the last KEY_ROTATE event names";
  t.equal(
    withTree(data, (tree) => tree.refusal),
    refusal,
  );
  t.match(beginTree({ data, origin: "", archive: null }), { reason: refusal, continues: true, vkey: first.vkey });
  t.equal(signed(data).vkey, first.vkey);
  t.same(await faults(data, first.vkey), []);
});
