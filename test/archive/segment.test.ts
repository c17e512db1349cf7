import { execFileSync } from "node:child_process";
import { hash } from "node:crypto";
import { readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import fc from "fast-check";
import t from "tap";
import { archivedLog, archiveFiles, markArchive } from "../../src/archive/archive.ts";
import { segmentsAtHand } from "../../src/archive/at_hand.ts";
import { eventLine, readEventLine } from "../../src/archive/event_line.ts";
import { eventsName, readName, stateName } from "../../src/archive/names.ts";
import { usableSnapshot } from "../../src/archive/restore.ts";
import { readSegment, type Segment, segmentBytes } from "../../src/archive/segment.ts";
import { readSnapshot, writeSnapshot } from "../../src/archive/snapshot.ts";
import { sha256Of } from "../../src/files/contents.ts";
import { LAYOUT } from "../../src/lmdb/marker.ts";
import type { EventRow } from "../../src/log/event.ts";
import type { Cell } from "../../src/maps/cells.ts";
import { SqliteArchiveSource } from "../../src/sqlite/archive_source.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { SEED } from "../support/seed.ts";

const ROW: EventRow = {
  seq: 1,
  time_us: 1_764_000_000_123_456,
  session: 1,
  caller: "anonymous",
  cmd: 2,
  map: 1,
  fd: 3,
  key: Buffer.from([0, 255]),
  value: Buffer.alloc(0),
  flags: 0,
  ret: -1,
  errno: 2,
  detail: null,
  attr: null,
  out: '{"count":1}',
};

const bytes = fc.option(fc.uint8Array({ maxLength: 40 }).map((array) => Buffer.from(array)));
const text = fc.option(fc.string({ unit: "binary", maxLength: 20 }));
const rows: fc.Arbitrary<EventRow> = fc.record(
  {
    seq: fc.nat(),
    time_us: fc.maxSafeInteger(),
    session: fc.nat(),
    caller: fc.string({ unit: "binary" }),
    cmd: fc.integer(),
    map: fc.nat(),
    fd: fc.option(fc.integer()),
    key: bytes,
    value: bytes,
    flags: fc
      .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
      .map((flags) => (Number.isSafeInteger(Number(flags)) ? Number(flags) : flags)),
    ret: fc.integer(),
    errno: fc.nat(),
    detail: text,
    attr: text,
    out: text,
  },
  { noNullPrototype: true },
);

t.test("a line of a segment has every column of its event, exactly", (t) => {
  fc.assert(
    fc.property(rows, (row) => {
      const line = eventLine(row);
      t.strictSame(readEventLine(line), row);
      if (line.indexOf("\n") !== line.length - 1) throw new Error("a line is one line");
    }),
    { seed: SEED, numRuns: 300 },
  );
  t.end();
});

t.test("a line has the columns of the log's table, in their order; the log's rows come out as they went in", (t) => {
  const folder = t.testdir();
  const file = join(folder, "events.sqlite");
  new SqliteEventLog(file).close();
  const db = new Sqlite(file);
  const columns = db.prepare("SELECT name FROM pragma_table_info('events') ORDER BY cid").pluck().all();
  t.strictSame(Object.keys(JSON.parse(eventLine(ROW))), columns);
  const insert = db.prepare(`INSERT INTO events (${columns.join(",")}) VALUES (${columns.map(() => "?").join(",")})`);
  const given = fc.sample(rows, { seed: SEED, numRuns: 300 }).map((row, at) => ({ ...row, seq: at + 1 }));
  for (const row of given) insert.run(columns.map((name) => row[name as keyof EventRow]));
  db.close();
  const source = new SqliteArchiveSource(file);
  t.strictSame([...source.rows(0, 300)].map(eventLine), given.map(eventLine));
  t.equal([...source.rows(100, 250)].length, 150);
  source.close();
  t.end();
});

t.test("a segment that is not as it was written is named", (t) => {
  const folder = t.testdir();
  const name = eventsName(1, 3);
  const file = join(folder, name);
  const given = [1, 2, 3].map((seq) => ({ ...ROW, seq }));
  const written = segmentBytes(given.map(eventLine).join(""));
  writeFileSync(file, written);
  const segment = (bytes: Buffer): Segment => {
    writeFileSync(file, bytes);
    return { is: "events", name, first: 1, through: 3, sha256: hash("sha256", bytes) };
  };
  const whole = segment(written);
  t.strictSame(readSegment(folder, whole), given);
  const flipped = Buffer.from(written);
  flipped[20] = (flipped[20] as number) ^ 1;
  writeFileSync(file, flipped);
  t.throws(() => readSegment(folder, whole), {
    message: `the archive is damaged: ${file} does not match its recorded SHA-256`,
  });
  t.throws(() => readSegment(folder, segment(flipped)), /damaged: .*events-0+1-0+3\.ndjson\.zst cannot be read/);
  t.throws(() => readSegment(folder, segment(written.subarray(0, -9))), /cannot be read/);
  const lacking = segment(segmentBytes(given.slice(1).map(eventLine).join("")));
  t.throws(() => readSegment(folder, lacking), /does not have exactly the events 1 to 3/);
  rmSync(file);
  t.throws(() => readSegment(folder, whole), /cannot be read: ENOENT/);
  t.end();
});

t.test("a snapshot of the layouts before, which lack creators and counts, can be used; others cannot", async (t) => {
  const folder = t.testdir();
  const file = join(folder, stateName(7));
  const usable = async (layout: number): Promise<boolean> => {
    await writeSnapshot(file, { log: "l", seq: 7, layout }, []);
    const archived = { through: 7, timeUs: 0, state: await sha256Of(file), directory: folder };
    return typeof (await usableSnapshot(folder, { archived, log: "l", layout: LAYOUT })) !== "string";
  };
  t.equal(await usable(LAYOUT), true);
  for (const layout of [5, 6, 7]) t.equal(await usable(layout), true);
  t.equal(await usable(4), false);
  t.equal(await usable(LAYOUT + 1), false);
});

t.test("a snapshot gives back its cells; one that ends early says so", async (t) => {
  const file = join(t.testdir(), stateName(7));
  const cells: Cell[] = fc
    .sample(fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 9 }), fc.uint8Array({ maxLength: 200 })), 5000)
    .map(([key, value]) => [Buffer.from(key).toString("latin1"), Buffer.from(value)]);
  cells.push(["e".repeat(500), Buffer.alloc(3_000_000, 7)]);
  const head = { log: "l", seq: 7, layout: 2 };
  const read = async (): Promise<Cell[]> => {
    const snapshot = await readSnapshot(file);
    t.strictSame(snapshot.head, head);
    const found: Cell[] = [];
    for await (const batch of snapshot.cells) found.push(...batch);
    return found;
  };
  for (const given of [cells, []]) {
    await writeSnapshot(file, head, given);
    t.strictSame(await read(), given);
  }
  await writeSnapshot(file, head, cells);
  writeFileSync(file, readFileSync(file).subarray(0, -20));
  await t.rejects(read(), /unexpected end of file/);
  rmSync(file);
  await t.rejects(readSnapshot(file), /ENOENT/);
});

t.test("names say which events, and nothing else does", (t) => {
  t.equal(eventsName(1, 100_000), "events-000000000001-000000100000.ndjson.zst");
  t.strictSame(readName(eventsName(1, 5)), { is: "events", name: eventsName(1, 5), first: 1, through: 5 });
  t.strictSame(readName(stateName(5)), { is: "state", name: stateName(5), through: 5 });
  for (const other of ["", "../x", "events.sqlite", `${eventsName(1, 5)}.partial`, `x/${stateName(5)}`])
    t.equal(readName(other), null, other);
  t.end();
});

t.test("a segment or a snapshot that unpacks to more than there can be is refused", async (t) => {
  const folder = t.testdir();
  const bomb = segmentBytes("x".repeat(1_000_000));
  t.ok(bomb.length < 1000);
  writeFileSync(join(folder, "bomb"), bomb);
  const segment: Segment = { name: "bomb", is: "events", first: 1, through: 1, sha256: hash("sha256", bomb) };
  t.throws(() => readSegment(folder, segment, 500_000), {
    message: /^the archive is damaged: .*bomb cannot be read: .*500000 bytes/,
  });
  await t.rejects(readSnapshot(join(folder, "bomb"), 500_000), {
    message: /unpacks to a line of more than 500000 characters$/,
  });
});

t.test("a line whose columns are not an event's is refused, and costs no more than it has", async (t) => {
  const line = JSON.parse(eventLine(ROW));
  for (const [name, wrong] of [
    ["key", { length: 2 ** 40 }],
    ["value", [1, 2]],
    ["key", "0g"],
    ["value", "012"],
    ["seq", "1"],
    ["time_us", 1.5],
    ["fd", {}],
    ["flags", "0x10"],
    ["flags", "9".repeat(1_000_000)],
    ["caller", null],
    ["attr", {}],
    ["out", undefined],
  ] as const)
    t.throws(() => readEventLine(JSON.stringify({ ...line, [name]: wrong })), /an event has/, name);
  for (const other of ["null", "5", "[]"]) t.throws(() => readEventLine(other), other);
  t.notOk("more" in readEventLine(JSON.stringify({ ...line, more: 1 })));
});

t.test("no name is of a segment that ends before it begins, or of seqs that cannot be counted", (t) => {
  for (const [first, through] of [
    [51, 50],
    [0, 5],
    [1, 2 ** 53],
    [1, 1e20],
  ] as const)
    t.equal(readName(nameOf(first, through)), null, `${first}-${through}`);
  t.equal(readName(`state-${"9".repeat(400)}.ndjson.zst`), null);
  t.end();
});

/** As a segment is called, whatever its seqs are. */
function nameOf(first: number, through: number): string {
  const [from, to] = [first, through].map((seq) => String(BigInt(seq)).padStart(12, "0"));
  return `events-${from}-${to}.ndjson.zst`;
}

t.test(
  "a list of segments that lead back to each other, or have more tiles than can be held, is not gone through",
  (t) => {
    const folder = t.testdir();
    markArchive(folder, "l");
    const list = (...names: string[]): void =>
      writeFileSync(join(folder, "SHA256SUMS"), names.map((name) => `${"0".repeat(64)}  ${name}\n`).join(""));
    for (const names of [[nameOf(51, 50)], [nameOf(100, 50), nameOf(51, 99)]]) {
      list(...names);
      t.match(segmentsAtHand([folder], "l", 50), /SHA256SUMS is damaged/);
    }
    list(nameOf(1, Number.MAX_SAFE_INTEGER));
    const [mark, sums, segment, tile] = archiveFiles(folder);
    t.strictSame([mark, sums, segment, tile], ["archive.json", "SHA256SUMS", nameOf(1, 2 ** 53 - 1), "tile/0/000"]);
    t.end();
  },
);

t.test("an archive's mark that is large, or names no log, is damaged", (t) => {
  const folder = t.testdir();
  const mark = join(folder, "archive.json");
  for (const [text, why] of [
    [`{"log":"l"${" ".repeat(2 ** 20)}}`, /is damaged: .* has 1048587 bytes: more than 1048576/],
    ['{"log":{"length":1}}', /is damaged: it does not name a log/],
    ["null", /is damaged/],
  ] as const) {
    writeFileSync(mark, text);
    t.throws(() => archivedLog(folder), why);
  }
  t.end();
});

t.test("what has taken a file's place since it was looked at is not waited for, and not followed", async (t) => {
  const folder = t.testdir({ other: "x" });
  const file = join(folder, stateName(7));
  execFileSync("mkfifo", [file]);
  await t.rejects(sha256Of(file), /is not a regular file/);
  await t.rejects(readSnapshot(file), /is not a regular file/);
  rmSync(file);
  symlinkSync("/dev/zero", file);
  await t.rejects(sha256Of(file), { code: "ELOOP" });
  await t.rejects(readSnapshot(file), { code: "ELOOP" });
  rmSync(file);
  symlinkSync("other", file);
  await t.rejects(sha256Of(file), { code: "ELOOP" });
});
