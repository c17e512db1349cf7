import { once } from "node:events";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import Sqlite from "better-sqlite3";
import t from "tap";
import { openTree } from "../../src/data/open_tree.ts";
import { checkWritten } from "../../src/data/version.ts";
import { STATE_LAYOUT } from "../../src/lmdb/marker.ts";
import { LAYOUT as RUNS_LAYOUT } from "../../src/runs/manifest.ts";
import { schemaVersion } from "../../src/sqlite/schema_version.ts";
import { HERE } from "../../src/verify/derived_process.ts";
import { verify } from "../../src/verify/verify.ts";
import { mapledger } from "../support/cli.ts";
import { makeIndex } from "../support/made_index.ts";
import { spawnService } from "../support/service_process.ts";
import { writeLog } from "../support/write_log.ts";

const root = mkdtempSync(join(tmpdir(), "mapledger-version-"));
const clean = join(root, "clean");
t.teardown(() => rmSync(root, { recursive: true }));

t.before(async () => {
  await writeLog(clean);
  const tree = openTree(clean, "");
  while (tree.catchUp());
  tree.close(true);
  await makeIndex(clean);
});

let copies = 0;

function copy(): string {
  const data = join(root, `copy${++copies}`);
  cpSync(clean, data, { recursive: true });
  return data;
}

type Database = "events" | "tree";

function setVersion(data: string, file: Database): void {
  const db = new Sqlite(join(data, `${file}.sqlite`));
  db.pragma("user_version = 99");
  db.close();
}

/** As a process leaves it that dies before the -wal file is written back. */
function setVersionInWal(data: string, file: Database): void {
  const path = join(data, `${file}.sqlite`);
  const db = new Sqlite(path);
  db.pragma("journal_mode = WAL");
  db.pragma("wal_autocheckpoint = 0");
  db.pragma("user_version = 99");
  cpSync(path, `${path}.kept`);
  cpSync(`${path}-wal`, `${path}-wal.kept`);
  db.close();
  for (const suffix of ["", "-wal"]) {
    cpSync(`${path}${suffix}.kept`, path + suffix);
    rmSync(`${path}${suffix}.kept`);
  }
}

function setLayout(data: string, layout: number): void {
  mkdirSync(join(data, "state"), { recursive: true });
  writeFileSync(join(data, "state", "marker.json"), JSON.stringify({ layout }));
}

/** Whatever else a newer manifest has. */
function setRunsLayout(data: string, store: "history" | "index", layout: number): void {
  mkdirSync(join(data, store), { recursive: true });
  writeFileSync(join(data, store, "manifest.json"), `${JSON.stringify({ layout, new: true })}\n`);
}

function remove(data: string, file: Database): void {
  for (const suffix of ["", "-wal", "-shm"]) rmSync(join(data, `${file}.sqlite${suffix}`), { force: true });
}

/** As a machine leaves a file that goes down before its bytes have reached the disk. */
function empty(data: string, file: Database): void {
  remove(data, file);
  writeFileSync(join(data, `${file}.sqlite`), "");
}

/** A database, but without tables. */
function bare(data: string, file: Database): void {
  remove(data, file);
  const db = new Sqlite(join(data, `${file}.sqlite`));
  db.pragma("journal_mode = WAL");
  db.close();
}

/** Each path with its mode, when it was changed and what it holds. */
function contents(data: string): [string, number, number, string][] {
  return (readdirSync(data, { recursive: true }) as string[]).sort().map((name) => {
    const { mode, mtimeMs } = statSync(join(data, name));
    const held = statSync(join(data, name)).isFile() ? readFileSync(join(data, name)).toString("base64") : "";
    return [name, mode, mtimeMs, held];
  });
}

const GONE = /: its log is gone\. .*Nothing was changed$/;

const REFUSED: readonly [what: string, change: (data: string) => void, says: RegExp][] = [
  [
    "a newer log",
    (d) => setVersion(d, "events"),
    /^\S+ was written by a newer mapledger: events.sqlite has version 99,/,
  ],
  [
    "a newer tree",
    (d) => setVersion(d, "tree"),
    /newer mapledger: tree.sqlite has version 99, this mapledger knows \d+; noth/,
  ],
  [
    "a newer index",
    (d) => setRunsLayout(d, "index", RUNS_LAYOUT + 1),
    /newer mapledger: index\/ has layout \d+, this mapledger kn/,
  ],
  ["a newer log, in its -wal", (d) => setVersionInWal(d, "events"), /newer mapledger: events.sqlite has version 99, /],
  ["a newer tree, in its -wal", (d) => setVersionInWal(d, "tree"), /newer mapledger: tree.sqlite has version 99, /],
  [
    "a newer state",
    (d) => setLayout(d, STATE_LAYOUT + 1),
    /newer mapledger: state\/ has layout \d+, this mapledger kn/,
  ],
  [
    "a newer history",
    (d) => setRunsLayout(d, "history", RUNS_LAYOUT + 1),
    /newer mapledger: history\/ has layout .*; nothing was changed\. A start with --rebuild builds/,
  ],
  [
    "no log beside a tree",
    (d) => remove(d, "events"),
    /there is no events.sqlite, but there is tree.sqlite: its log is/,
  ],
  [
    "an empty log beside a tree",
    (d) => empty(d, "events"),
    /events.sqlite has no tables: nothing was ever rec.* is gone/,
  ],
  ["a log without tables beside a tree", (d) => bare(d, "events"), GONE],
  [
    "no log beside a checkpoint",
    (d) => {
      remove(d, "events");
      remove(d, "tree");
      writeFileSync(join(d, "checkpoint"), "x");
    },
    GONE,
  ],
];

for (const [what, change, says] of REFUSED)
  t.test(`a start refuses ${what}, and changes nothing`, (t) => {
    const data = copy();
    change(data);
    const before = contents(data);
    t.throws(() => checkWritten(data), { message: says });
    t.same(contents(data), before);
    t.end();
  });

const TAKEN: readonly [what: string, change: (data: string) => void, rebuild?: boolean][] = [
  ["what it has written", () => {}],
  ["a directory that is not there", (d) => rmSync(d, { recursive: true })],
  ["an empty log and nothing of it", (d) => readdirSync(d).map((name) => rmSync(join(d, name), { recursive: true }))],
  ["an older state", (d) => setLayout(d, STATE_LAYOUT - 1)],
  ["an older index", (d) => setRunsLayout(d, "index", RUNS_LAYOUT - 1)],
  ["no tree", (d) => remove(d, "tree")],
  ["a newer state that is to be made again", (d) => setLayout(d, STATE_LAYOUT + 1), true],
];

for (const [what, change, rebuild] of TAKEN)
  t.test(`a start takes ${what}`, (t) => {
    const data = copy();
    change(data);
    t.doesNotThrow(() => checkWritten(data, rebuild));
    t.end();
  });

t.test("the service and the command line look before they touch anything", async (t) => {
  const data = copy();
  setVersion(data, "tree");
  const before = contents(data);
  const child = spawnService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
  const [lines, [code]] = await Promise.all([text(child.stdout), once(child, "exit")]);
  t.match([code, lines], [1, /the service cannot start.*|was written by a newer mapledger: tree.sqlite/]);
  t.match(lines, /was written by a newer mapledger: tree.sqlite has version 99/);
  const { code: rotated, stderr } = await mapledger("key", "rotate", "--data", data);
  t.match([rotated, stderr], [1, /was written by a newer mapledger: tree.sqlite has version 99/]);
  t.same(contents(data), before);
});

t.test("the version of a schema is read as SQLite has it, whatever is in the -wal", (t) => {
  const file = join(root, "walked.sqlite");
  t.equal(schemaVersion(file), null, "no file");
  writeFileSync(file, "x".repeat(4096));
  t.equal(schemaVersion(file), null, "no database");
  for (const pageBytes of [512, 4096, 65_536]) {
    rmSync(file, { force: true });
    const db = new Sqlite(file);
    db.pragma(`page_size = ${pageBytes}`);
    db.pragma("journal_mode = WAL");
    db.exec("CREATE TABLE x (x)");
    const { pid } = process;
    const snapshot = (): number | null => {
      const copied = join(root, `walked-${pid}.sqlite`);
      for (const suffix of ["", "-wal"]) cpSync(file + suffix, copied + suffix);
      return schemaVersion(copied);
    };
    t.equal(snapshot(), 0);
    for (const version of [1, 2, 3]) {
      db.pragma(`user_version = ${version}`);
      db.exec(`INSERT INTO x VALUES (${version})`);
      t.equal(snapshot(), version, `${version}, pages of ${pageBytes} bytes`);
      if (version === 2) db.pragma("wal_checkpoint(RESTART)");
    }
    db.exec("BEGIN; PRAGMA user_version = 9; ROLLBACK");
    t.equal(snapshot(), 3, "what was rolled back does not count");
    db.close();
    t.equal(schemaVersion(file), 3);
  }
  t.end();
});

t.test("a -wal that is room alone, or whose pages have no bytes, is not gone through", (t) => {
  const file = join(root, "roomy.sqlite");
  const db = new Sqlite(file);
  db.pragma("user_version = 5");
  db.close();
  for (const pageBytes of [0, 4096]) {
    const head = Buffer.alloc(32);
    head.writeUInt32BE(0x377f0682);
    head.writeUInt32BE(pageBytes, 8);
    writeFileSync(`${file}-wal`, head);
    truncateSync(`${file}-wal`, 2 ** 40);
    t.equal(schemaVersion(file), 5);
  }
  t.end();
});

const WORDS: readonly [what: string, harm: (data: string) => void, says: RegExp][] = [
  ["no log", (d) => remove(d, "events"), /^verifying \S+: there is no events.sqlite$/],
  [
    "an empty log",
    (d) => empty(d, "events"),
    /^verifying \S+: events.sqlite has no tables: nothing was ever recorded in it$/,
  ],
  ["a log without tables", (d) => bare(d, "events"), /^verifying \S+: events.sqlite has no tables: nothing/],
  [
    "an empty tree",
    (d) => empty(d, "tree"),
    /^tree.sqlite has no tables: nothing was ever recorded in it: nothing vou/,
  ],
  ["a tree without tables", (d) => bare(d, "tree"), /^tree.sqlite has no tables: /],
];

for (const [what, harm, says] of WORDS)
  t.test(`verify says of ${what} what is missing, in words`, async (t) => {
    const data = copy();
    harm(data);
    const parts = { data, archive: null, trusted: [], outside: [], checks: HERE, progress() {} };
    const said = await verify(parts).then(
      ({ findings }) => findings.map(({ text }) => text),
      (error: Error) => [error.message],
    );
    t.ok(
      said.some((text) => says.test(text)),
      said.join("\n"),
    );
    t.notMatch(said.join("\n"), /no such table/);
  });
