import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import t from "tap";
import { archivedLog } from "../../src/archive/archive.ts";
import { checkData } from "../../src/data/entries.ts";
import { openTree } from "../../src/data/open_tree.ts";
import { mapledger } from "../support/cli.ts";
import { spawnService } from "../support/service_process.ts";
import { writeLog } from "../support/write_log.ts";

const root = mkdtempSync(join(tmpdir(), "mapledger-plain-"));
const clean = join(root, "clean");
const backup = join(root, "backup");
t.teardown(() => rmSync(root, { recursive: true }));

t.before(async () => {
  await writeLog(clean);
  const tree = openTree(clean, "");
  while (tree.catchUp());
  tree.checkpoint();
  tree.close(true);
  for (const words of [
    ["archive", "--before", "301", "--data", clean],
    ["backup", backup, "--data", clean],
  ]) {
    const { code, stderr } = await mapledger(...words);
    if (code !== 0) throw new Error(stderr);
  }
});

let copies = 0;

function copyOf(folder: string): string {
  const copy = join(root, `copy${++copies}`);
  cpSync(folder, copy, { recursive: true });
  return copy;
}

/** What is put in a name's place; what was there stands beside it. */
const HARM: Readonly<Record<string, (path: string) => void>> = {
  "a symbolic link": (path) => {
    if (existsSync(path)) renameSync(path, `${path}.aside`);
    symlinkSync(`${path}.aside`, path);
  },
  "a FIFO": (path) => {
    rmSync(path, { recursive: true, force: true });
    execFileSync("mkfifo", [path]);
  },
  "a directory": (path) => {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
  },
};

const FILES = ["events.sqlite", "events.sqlite-wal", "tree.sqlite", "lock.sqlite", "log.key", "log.key.next"]
  .concat([
    "checkpoint",
    "token",
    "cgroups/note",
    "state/data.mdb",
    "state/marker.json",
    "history/data.mdb",
    "index/manifest.json",
  ])
  .concat(["state-000000000300.ndjson.zst"]);

for (const [kind, harm] of Object.entries(HARM))
  t.test(`${kind} in a file's place in a data directory is refused, by its name`, async (t) => {
    for (const name of FILES) {
      const data = copyOf(clean);
      for (const folder of ["history", "index", "cgroups"]) mkdirSync(join(data, folder), { recursive: true });
      harm(join(data, name));
      t.throws(() => checkData(data), {
        message: `${join(data, name)} is ${kind}: there must be a plain file, and no link`,
      });
    }
  });

t.test("a link in a directory's place is refused, that to the data directory itself is not", async (t) => {
  for (const name of ["state", "history", "index", "cgroups", "archive"]) {
    const data = copyOf(clean);
    rmSync(join(data, name), { recursive: true, force: true });
    symlinkSync(join(clean, name), join(data, name));
    t.throws(() => checkData(data), {
      message: `${join(data, name)} is a symbolic link: there must be a directory, and no link`,
    });
  }
  const link = join(root, "link");
  symlinkSync(clean, link);
  t.doesNotThrow(() => checkData(link));
  t.match(await mapledger("verify", link), { code: 0 });
});

t.test("what nobody opens may be anything", (t) => {
  const data = copyOf(clean);
  symlinkSync("nowhere", join(data, "latest"));
  execFileSync("mkfifo", [join(data, "fifo")]);
  t.doesNotThrow(() => checkData(data));
  t.end();
});

t.test("whoever opens a data directory refuses it, and writes nothing through a link", async (t) => {
  const data = copyOf(clean);
  rmSync(join(data, "events.sqlite"));
  const elsewhere = join(root, "elsewhere");
  symlinkSync(elsewhere, join(data, "events.sqlite"));
  const said = /events.sqlite is a symbolic link: there must be a plain file, and no link/;
  for (const words of [
    ["verify", data],
    ["archive", "--before", "310", "--data", data],
    ["key", "rotate", "--data", data],
    ["tree", "begin-anew", "--data", data],
    ["backup", join(root, "never"), "--data", data],
  ])
    t.match(await mapledger(...words), { code: 1, stderr: said }, words.join(" "));
  const child = spawnService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  const [lines, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  t.equal(code, 1);
  t.match(lines, said);
  t.notOk(existsSync(elsewhere));
});

t.test("in a backup and in an archive, too: nobody waits for a FIFO", async (t) => {
  const files = [
    "manifest.json",
    "events.sqlite",
    "tree.sqlite",
    "log.key",
    "archive/archive.json",
    "archive/SHA256SUMS",
  ].concat(["archive/tile/0/000", "archive/events-000000000001-000000000300.ndjson.zst"]);
  for (const [kind, harm] of Object.entries(HARM))
    for (const name of files) {
      const copy = copyOf(backup);
      harm(join(copy, name));
      const said = `${join(copy, name)} is ${kind}: there must be a plain file, and no link`;
      if (name.startsWith("archive/")) t.throws(() => archivedLog(join(copy, "archive")), { message: said });
      if (kind !== "a FIFO") continue;
      const restored = join(root, `restored${copies}`);
      const { code, stderr } = await mapledger("restore-backup", copy, "--data", restored);
      t.equal(code, 1);
      t.match(stderr, said);
      t.notOk(existsSync(restored));
    }
  const data = join(root, "target");
  mkdirSync(data);
  symlinkSync(join(root, "elsewhere"), join(data, "lock.sqlite"));
  t.match(await mapledger("restore-backup", backup, "--data", data), {
    code: 1,
    stderr: /lock.sqlite is a symbolic link/,
  });
  t.notOk(existsSync(join(root, "elsewhere")));
});
