import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
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
import { Archive, archiveFiles } from "../../src/archive/archive.ts";
import { eventLine } from "../../src/archive/event_line.ts";
import type { ArchiveProgress } from "../../src/archive/make.ts";
import { eventsName, stateName } from "../../src/archive/names.ts";
import { makeBackup } from "../../src/backup/make.ts";
import { restoreBackup } from "../../src/backup/restore.ts";
import { archiveStopped, runArchive } from "../../src/data/archive_job.ts";
import { openTree } from "../../src/data/open_tree.ts";
import type { ArchiveAttr } from "../../src/engine/archives.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import { CanonicalWriter, rowBytes } from "../../src/log/canonical.ts";
import type { EventRow } from "../../src/log/event.ts";
import { SqliteArchiveSource } from "../../src/sqlite/archive_source.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { holdLock } from "../../src/sqlite/lock.ts";
import { done } from "../../src/syscall/outcome.ts";
import { treeRoot } from "../../src/tlog/merkle.ts";
import { Edge, subtreesOf, TILE_HASHES, tilePath } from "../../src/tlog/tiles.ts";
import { mapledger } from "../support/cli.ts";
import { HOST } from "../support/commands.ts";
import { foldRows } from "../support/fold.ts";
import { openEngine, type Recovered, recover } from "../support/recover.ts";
import { bare } from "../support/service_process.ts";
import { writeLog } from "../support/write_log.ts";

const UNTIL = new URL("../support/archive_until.ts", import.meta.url).pathname;

const folder = mkdtempSync(join(tmpdir(), "mapledger-archive-"));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const original = join(folder, "original");
let last = 0;
let rows: EventRow[] = [];

t.before(async () => {
  await writeLog(original);
  const tree = openTree(original, "");
  while (tree.catchUp());
  tree.close(true);
  rows = keptRows(original);
  last = rows.length;
});

/** A copy of the original data directory. */
function copyOf(t: Test): string {
  const data = join(folder, t.name.replace(/\W+/g, "_").slice(0, 60));
  cpSync(original, data, { recursive: true });
  return data;
}

function logId(data: string): string {
  const source = new SqliteArchiveSource(join(data, "events.sqlite"));
  source.close();
  return source.id;
}

/** The edge of a tree of these events, hashed anew. */
function treeOf(events: readonly EventRow[]): Edge {
  const canonical = new CanonicalWriter();
  const edge = new Edge(
    0,
    () => t.bailout("an empty tree has no tiles") as never,
    () => {},
  );
  for (const row of events) edge.append((target, at) => canonical.leafHash(rowBytes(row), target, at));
  return edge;
}

function keptRows(data: string): EventRow[] {
  const source = new SqliteArchiveSource(join(data, "events.sqlite"));
  const rows = [...source.rows(0, source.lastSeq)];
  source.close();
  return rows;
}

/** The state that is made with nothing but the log and what was archived. */
async function remadeState(data: string): Promise<Recovered> {
  rmSync(join(data, "state"), { recursive: true, force: true });
  return recover(data);
}

const archiveBefore = (data: string, before: string): Promise<ArchiveAttr> =>
  archiveStopped({ data, directory: "", before }, () => {});

/** Events from the archive and from the log, as the original had them; and one ARCHIVE event for each archive. */
function compareEvents(t: Test, data: string, through: number): EventRow[] {
  const archive = new Archive(join(data, "archive"));
  const kept = keptRows(data);
  t.equal(kept[0]?.seq, through + 1, `the log begins at ${through + 1}`);
  const all = [...archive.rows(0, archive.lastSeq), ...kept];
  t.strictSame(all.slice(0, last).map(eventLine), rows.map(eventLine), "every event is there, exactly");
  return all.slice(last);
}

t.test("archive moves events to segments, says so in the log, and the state is what it was", async (t) => {
  const data = copyOf(t);
  const ran = await mapledger("archive", "--before", "201", "--data", data);
  t.equal(ran.code, 0, ran.stderr);
  t.match(ran.stdout, /^events 1 to 200 are in .*archive\n$/);
  const [event, ...rest] = compareEvents(t, data, 200);
  t.equal(rest.length, 0);
  t.match(event, { cmd: CMD.ARCHIVE, seq: last + 1, errno: 0, session: 0, caller: /^user:./ });
  const attr = JSON.parse(event?.attr as string) as ArchiveAttr;
  t.match(attr, { before: "201", first: 1, through: 200, directory: join(data, "archive") });
  t.equal(attr.time_us, rows[199]?.time_us);
  const sums = readFileSync(join(data, "archive", "SHA256SUMS"), "utf8");
  for (const { name, sha256 } of [...attr.segments, attr.state]) t.match(sums, `${sha256}  ${name}\n`);
  const { cells, replayed } = await remadeState(data);
  t.strictSame(cells, foldRows(rows, HOST), "made again from the snapshot");
  t.equal(replayed, last + 1 - 200, "and the kept events alone");
});

t.test("segments can be read and checked with standard tools", async (t) => {
  const data = copyOf(t);
  await archiveBefore(data, "101");
  const archive = join(data, "archive");
  const checked = execFileSync("sha256sum", ["-c", "SHA256SUMS"], { cwd: archive, encoding: "utf8" });
  t.match(checked, /^events.*: OK\nstate.*: OK\n$/);
  let text: string;
  try {
    text = execFileSync("zstd", ["-dc", eventsName(1, 100)], { cwd: archive, encoding: "utf8" });
  } catch (error) {
    t.pass("zstd reads a segment", { skip: `zstd cannot be run: ${(error as Error).message}` });
    return;
  }
  t.equal(text, rows.slice(0, 100).map(eventLine).join(""));
});

t.test(
  "the tiles of what is archived lie beside it, as tlog-tiles has them, and add up to the tree's root",
  async (t) => {
    const data = copyOf(t);
    const archive = join(data, "archive");
    const tiles = (): string[] => [...archiveFiles(archive)].filter((name) => name.startsWith("tile/"));
    for (const through of [100, 256, last]) {
      await archiveBefore(data, String(through + 1));
      const edge = treeOf(rows.slice(0, through));
      const subtrees = subtreesOf((level, index) => {
        const width = Math.min(Math.floor(through / TILE_HASHES ** level) - index * TILE_HASHES, TILE_HASHES);
        return readFileSync(join(archive, "tile", tilePath({ level, index, width })));
      });
      t.strictSame(treeRoot(through, subtrees), edge.root(), `of ${through} events`);
      const onDisk = readdirSync(archive, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.parentPath.startsWith(join(archive, "tile")))
        .map(({ parentPath, name }) => join(parentPath, name).slice(archive.length + 1));
      t.strictSame(onDisk.sort(), tiles().sort(), "and no narrower ones are left");
    }
  },
);

t.test("archiving again goes on where the last time ended; snapshots follow", async (t) => {
  const data = copyOf(t);
  for (const before of ["51", "151", String(last + 1)]) await archiveBefore(data, before);
  const events = compareEvents(t, data, last);
  t.strictSame(
    events.map(({ cmd }) => cmd),
    [CMD.ARCHIVE, CMD.ARCHIVE, CMD.ARCHIVE],
  );
  t.strictSame(
    new Archive(join(data, "archive")).segments.map(({ first, through }) => [first, through]),
    [
      [1, 50],
      [51, 150],
      [151, last],
    ],
  );
  t.strictSame(
    readdirSync(data).filter((name) => name.startsWith("state-")),
    [stateName(last)],
    "the last is kept",
  );
  t.strictSame((await remadeState(data)).cells, foldRows(rows, HOST));
  await t.rejects(archiveBefore(data, "100"), { message: `nothing to archive: the oldest event is ${last + 1}` });
});

t.test("killed at any step, nothing is lost, and the next time it is done", async (t) => {
  for (const step of ["writing", "comparing", "snapshot", "kept"] satisfies ArchiveProgress["step"][]) {
    const data = copyOf(t);
    const child = spawn(process.execPath, [UNTIL, data, "201", step], { stdio: "inherit", env: bare(process.env) });
    t.strictSame((await once(child, "exit"))[1], "SIGKILL", step);
    t.strictSame(keptRows(data).map(eventLine), rows.map(eventLine), "the log has everything");
    t.strictSame((await remadeState(data)).cells, foldRows(rows, HOST));
    // Other bounds than those of the files that were left.
    await archiveBefore(data, "176");
    compareEvents(t, data, 175);
    t.strictSame(
      readdirSync(join(data, "archive")).sort(),
      ["SHA256SUMS", "archive.json", eventsName(1, 175), stateName(175), "tile"],
      "nothing is left of what was broken off",
    );
    t.notOk(existsSync(join(data, "archiving")));
    rmSync(data, { recursive: true });
  }
});

t.test("killed when the log says it, or while events go from the log: the next start goes on", async (t) => {
  const data = copyOf(t);
  const attr = await runArchive({ data, directory: "", before: "201" }, { treeSize: 200, segmentEvents: 64 }, () => {});
  const log = new SqliteEventLog(join(data, "events.sqlite"));
  const command = { cmd: CMD.ARCHIVE, session: 0, caller: "t", timeUs: log.lastTimeUs, attr };
  log.append([{ seq: last + 1, command, outcome: done(0) }]);
  t.equal(log.deleteArchived(30), true);
  log.close();
  t.equal(keptRows(data)[0]?.seq, 31);
  const { engine } = await openEngine(data);
  while (engine.idle(true));
  await engine.close();
  compareEvents(t, data, 200);
  t.equal(new Archive(join(data, "archive")).segments.length, 4);
  t.strictSame((await remadeState(data)).cells, foldRows(rows, HOST));
});

t.test(
  "a state that ends among archived events is made again, from the snapshot or else from the archive",
  async (t) => {
    const data = copyOf(t);
    await archiveBefore(data, "201");
    const expected = foldRows(rows, HOST);
    const recoverBehind = async (): Promise<Recovered["cells"]> => {
      rmSync(join(data, "state"), { recursive: true });
      const store = new LmdbStore(join(data, "state"), logId(data));
      await store.write([["x", Buffer.from("no cell of any state")]], 100, 0);
      await store.close();
      return (await recover(data)).cells;
    };
    t.strictSame(await recoverBehind(), expected, "from the snapshot");
    rmSync(join(data, stateName(200)));
    t.strictSame(await recoverBehind(), expected, "from the archive's snapshot");
    truncateSync(join(data, "archive", stateName(200)), 100);
    t.strictSame(await recoverBehind(), expected, "from the archived events");
    truncateSync(join(data, "archive", eventsName(1, 200)), 100);
    await t.rejects(recoverBehind(), /damaged: .*events-0+1-0+200\.ndjson\.zst does not match its recorded SHA-256/);
    rmSync(join(data, "archive"), { recursive: true });
    await t.rejects(
      recoverBehind(),
      /events 1 to 200 are archived, and neither their snapshot nor the archive can be used/,
    );
  },
);

t.test("a backup takes the archive along, and the snapshot", async (t) => {
  const data = copyOf(t);
  await archiveBefore(data, "201");
  const backup = join(folder, "backup");
  const restored = join(folder, "restored");
  await makeBackup(data, backup, () => {});
  rmSync(data, { recursive: true });
  await restoreBackup(backup, restored, () => {});
  compareEvents(t, restored, 200);
  for (const name of archiveFiles(join(restored, "archive")))
    t.ok(existsSync(join(restored, "archive", name)), `${name} is there`);
  rmSync(join(restored, "archive"), { recursive: true });
  t.strictSame((await remadeState(restored)).cells, foldRows(rows, HOST), "from the snapshot alone");
});

t.test("the log's tree has what is archived, goes on behind it, and signs what continues it", async (t) => {
  const data = copyOf(t);
  await archiveBefore(data, "101");
  const before = openTree(data, "");
  const signed = before.checkpoint();
  t.match(signed, { size: last + 1 });
  before.close(true);
  await archiveBefore(data, String(last + 1));
  const after = openTree(data, "");
  t.strictSame([after.refusal, after.size], [null, last + 2]);
  t.match(after.checkpoint(), { size: last + 2 }, "consistent with what was signed");
  t.strictSame(after.proof(last), { oldestSeq: last + 1 });
  t.match(after.proof(last + 1), { text: /^c2sp\.org\/tlog-proof/ });
  const full = Math.floor(last / TILE_HASHES) - 1;
  t.strictSame(after.tile({ level: "entries", index: full, width: TILE_HASHES }), { oldestSeq: last + 1 });
  t.match(after.tile({ level: 0, index: 0, width: 256 }), { bytes: Buffer }, "tiles of archived events stay");
  after.close(true);
  await t.rejects(
    runArchive({ data, directory: "", before: String(last + 3) }, { treeSize: last + 1 }, () => {}),
    /the log's tree has only \d+ of the \d+ events yet/,
  );
});

t.test(
  "the entry bundle in which an archive ends can be had whole, as tlog-tiles has it, whenever its rows went",
  async (t) => {
    const data = copyOf(t);
    const bundle = (index: number, width: number): Buffer | undefined => {
      const tree = openTree(data, "");
      while (tree.catchUp());
      const answer = tree.tile({ level: "entries", index, width });
      tree.close(true);
      return answer !== null && "bytes" in answer ? answer.bytes : undefined;
    };
    const width = last - TILE_HASHES;
    const before = [bundle(0, TILE_HASHES), bundle(1, width)];
    for (const through of [100, 130, TILE_HASHES - 1, TILE_HASHES + 3, TILE_HASHES + 4]) {
      await archiveBefore(data, String(through + 1));
      t.equal(keptRows(data)[0]?.seq, through + 1, "no row of theirs is left");
      const expected = through < TILE_HASHES ? before : [undefined, before[1]];
      t.strictSame([bundle(0, TILE_HASHES), bundle(1, width)], expected, `archived through ${through}`);
    }
    const attr = await runArchive(
      { data, directory: "", before: String(TILE_HASHES + 11) },
      { treeSize: last },
      () => {},
    );
    const log = new SqliteEventLog(join(data, "events.sqlite"));
    const command = { cmd: CMD.ARCHIVE, session: 0, caller: "t", timeUs: log.lastTimeUs, attr };
    log.append([{ seq: log.lastSeq + 1, command, outcome: done(0) }]);
    for (let left = true; left; ) {
      left = log.deleteArchived(2);
      t.strictSame(bundle(1, width), before[1], "while they go");
    }
    log.close();
    const db = new Sqlite(join(data, "events.sqlite"));
    const where = "WHERE name = 'archived_entries'";
    const kept = JSON.parse(db.prepare(`SELECT value FROM ledger ${where}`).pluck().get() as string);
    const bytes = Buffer.from(kept.entries, "base64");
    bytes.writeUInt8(bytes.readUInt8(0) ^ 1, 0);
    const changed = { ...kept, entries: bytes.toString("base64") };
    t.equal(db.prepare(`UPDATE ledger SET value = ? ${where}`).run(JSON.stringify(changed)).changes, 1);
    db.close();
    const tree = openTree(data, "");
    t.match(tree.tile({ level: "entries", index: 1, width }), { refused: /^event \d+ in the log is not the one/ });
    tree.close(true);
  },
);

t.test("a log that is not what its tree has is not archived", async (t) => {
  const data = copyOf(t);
  const tree = openTree(data, "");
  while (tree.catchUp());
  tree.checkpoint();
  tree.close(true);
  const db = new Sqlite(join(data, "events.sqlite"));
  db.prepare("UPDATE events SET caller = 'somebody else' WHERE seq = ?").run(last - 1);
  db.close();
  await t.rejects(archiveBefore(data, "11"), /the log differs from its tree: event \d+ in the log is not the one/);
  t.equal(keptRows(data)[0]?.seq, 1);
});

t.test("before a moment: the events that are older, not the one at that moment", async (t) => {
  const data = join(folder, "moments");
  mkdirSync(data);
  const log = new SqliteEventLog(join(data, "events.sqlite"));
  log.possibleCpus(2, 2);
  const at = (second: number): number => Date.parse(`2026-01-01T00:00:${String(second).padStart(2, "0")}Z`) * 1000;
  [1, 2, 2, 3, 5, 5, 6].forEach((second, index) => {
    const attr = { name: "", ttlMs: 1000 };
    const command = { cmd: CMD.SESSION_OPEN, session: 0, caller: "t", timeUs: at(second), attr };
    log.append([{ seq: index + 1, command, outcome: done(0, null, { session_id: index + 1 }) }]);
  });
  log.close();
  const run = (before: string): Promise<ArchiveAttr> => archiveBefore(data, before);
  await t.rejects(run("2026-01-01T00:00:01Z"), { message: "nothing to archive: the oldest event is 1" });
  t.match(await run("2026-01-01T00:00:02Z"), { first: 1, through: 1 });
  t.match(await run("2026-01-01T00:00:04Z"), { first: 2, through: 4 });
  t.match(await run("2026-01-01T00:00:05.000001Z"), { first: 5, through: 6 });
  t.equal(keptRows(data)[0]?.seq, 7);
});

t.test("what cannot be archived is refused, and changes nothing", async (t) => {
  const data = copyOf(t);
  const refuses = async (before: string, why: RegExp, directory = ""): Promise<void> => {
    await t.rejects(
      archiveStopped({ data, directory, before }, () => {}),
      why,
    );
    t.equal(keptRows(data).length, last);
  };
  await refuses("99999", /^the log ends at event \d+: there is none before 99999 yet$/);
  await refuses("yesterday", /a seq, or a time such as/);
  writeFileSync(join(folder, "file"), "");
  await refuses("10", /EEXIST|ENOTDIR/, join(folder, "file"));
  await refuses("10", /is not empty, and not an archive/, folder);
  const other = join(folder, "other");
  mkdirSync(other);
  writeFileSync(join(other, "archive.json"), '{"log":"another"}');
  await refuses("10", /is the archive of log another; this log is/, other);
  const unlock = holdLock(join(data, "lock.sqlite"), data);
  await refuses("10", /another mapledger is using it/);
  unlock();
  await archiveBefore(data, "11");
  await archiveStopped({ data, directory: join(folder, "elsewhere"), before: "21" }, () => {});
  await t.rejects(archiveBefore(data, "31"), /ends at event 10, but events up to 20 are archived: name another/);
});

t.test("mapledger archive says in one line why it cannot", async (t) => {
  const data = copyOf(t);
  t.match(await mapledger("archive"), { code: 2, stderr: /required option '--before <seq\|time>'/ });
  const nowhere = await mapledger("archive", "--before", "1", "--data", join(folder, "nowhere"));
  t.match(nowhere, { code: 1, stderr: /^mapledger: [^\n]+ is not a data directory: it has no events\.sqlite\n$/ });
  const beyond = await mapledger("archive", "--before", "99999", "--data", data);
  t.match(beyond, { code: 1, stderr: /^mapledger: the log ends at event \d+: [^\n]+\n$/ });
  const nothing = await mapledger("archive", "--before", "1", "--data", data);
  t.match(nothing, { code: 0, stdout: "nothing to archive: the oldest event is 1\n" });
});
