import { generateKeyPairSync } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { open } from "lmdb";
import t from "tap";
import { BPF_MAP_TYPE } from "../../src/abi/bpf.ts";
import { CMD } from "../../src/abi/service.ts";
import { Engine } from "../../src/engine/engine.ts";
import type { StateStore } from "../../src/engine/ports.ts";
import type { Request } from "../../src/engine/request.ts";
import { LmdbStore } from "../../src/lmdb/store.ts";
import { ENTRY_BYTES } from "../../src/log/canonical.ts";
import { afterPrefix, type Cell, type CellKey, firstIn } from "../../src/maps/cells.ts";
import { disabledMirror } from "../../src/mirror/mirror.ts";
import { History } from "../../src/past/history.ts";
import { SEQ_BYTES, VERSION_FILTER, versionKey } from "../../src/past/versions.ts";
import { RunsStore } from "../../src/runs/store.ts";
import { SqliteEventLog } from "../../src/sqlite/event_log.ts";
import { holdLock } from "../../src/sqlite/lock.ts";
import { SqliteLogRows } from "../../src/sqlite/log_rows.ts";
import { SqlitePastLog } from "../../src/sqlite/past_log.ts";
import { SqliteTreeStore } from "../../src/sqlite/tree_store.ts";
import { done } from "../../src/syscall/outcome.ts";
import { type Signer, signerOf, type Verifier } from "../../src/tlog/note.ts";
import { LogTree } from "../../src/tree/log_tree.ts";
import type { KeptCheckpoint } from "../../src/tree/ports.ts";
import { APART, HERE } from "../../src/verify/derived_process.ts";
import { type Finding, findingText } from "../../src/verify/finding.ts";
import { type Verified, verify } from "../../src/verify/verify.ts";
import { mapledger } from "../support/cli.ts";
import { createAttr, HOST } from "../support/commands.ts";
import { changeIndex, makeIndex } from "../support/made_index.ts";
import { BY_ITSELF } from "../support/memory_tree.ts";
import { newWitness } from "../support/new_witness.ts";
import { noPast } from "../support/no_past.ts";
import { noProcesses } from "../support/processes.ts";

const EVENTS = 700;
/** Sizes of which checkpoints were signed. */
const SIGNED = [300, 400, EVENTS];

const signer = signerOf("mapledger/x", generateKeyPairSync("ed25519").privateKey);
const root = mkdtempSync(join(tmpdir(), "mapledger-verify-"));
const clean = join(root, "clean");
t.teardown(() => rmSync(root, { recursive: true }));

/** A data directory as a service leaves it that has stopped; answers the checkpoints of size 400 and of all. */
async function make(): Promise<{ kept400: KeptCheckpoint; kept700: KeptCheckpoint }> {
  mkdirSync(clean);
  const log = new SqliteEventLog(join(clean, "events.sqlite"));
  log.possibleCpus(0, HOST.possibleCpus);
  let timeUs = 1_767_225_600_000_000;
  const engine = new Engine({
    log,
    store: new LmdbStore(join(clean, "state"), log.id),
    mirror: disabledMirror("not in this test"),
    past: noPast,
    clock: { nowUs: () => ++timeUs, nowMs: () => performance.now() },
    host: HOST,
    interfaces: () => [1],
    processes: noProcesses,
    graceMs: 1000,
    report: () => {},
  });
  await engine.recover(() => {});
  const kept: KeptCheckpoint[] = [];
  for (const [at, request] of requests().entries()) {
    engine.run([request]);
    if (!SIGNED.includes(at + 1)) continue;
    kept.push(sign(clean, at + 1 === EVENTS));
  }
  while (engine.idle(false));
  await engine.close();
  writeFileSync(join(clean, "log.key"), signer.privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  holdLock(join(clean, "lock.sqlite"), clean)();
  const [, kept400, kept700] = kept as [KeptCheckpoint, KeptCheckpoint, KeptCheckpoint];
  writeFileSync(join(clean, "checkpoint"), kept700.note);
  return { kept400, kept700 };
}

/** Brings the tree of a data directory to the end of its log, and signs it. */
function sign(data: string, isLast: boolean, by: Signer = signer): KeptCheckpoint {
  const store = new SqliteTreeStore(join(data, "tree.sqlite"));
  const log = new SqliteLogRows(join(data, "events.sqlite"), false);
  const tree = new LogTree({ ...BY_ITSELF, store, log, signer: by, nowUs: () => 1 });
  while (tree.catchUp());
  const checkpoint = tree.checkpoint();
  if ("refused" in checkpoint) throw new Error(checkpoint.refused);
  tree.close(isLast);
  return checkpoint;
}

/** Maps of several kinds, one of which is freed, and events with all columns, with few, and with errnos. */
function requests(): Request[] {
  const session = { session: 1, caller: "alice" };
  const bytes = (number: number, length: number): Buffer => {
    const buffer = Buffer.alloc(length);
    buffer.writeUInt32LE(number);
    return buffer;
  };
  const created = [
    { maxEntries: 100 },
    { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, maxEntries: 20 },
    { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH, maxEntries: 10 },
    { mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH, maxEntries: 20 },
    { maxEntries: 5 },
  ];
  const begin: Request[] = [
    { session: 0, caller: "alice", cmd: CMD.SESSION_OPEN, attr: { name: "s\ufffd", ttlMs: 60_000 } },
    ...created.map((attr): Request => ({ ...session, cmd: CMD.BPF_MAP_CREATE, attr: createAttr(attr) })),
    { ...session, cmd: CMD.BPF_MAP_UPDATE_ELEM, target: fd(7), key: bytes(1, 4), value: bytes(1, 8), flags: 0n },
    { ...session, cmd: CMD.CLOSE, fd: 7, attr: { reason: "close" } },
  ];
  const work = Array.from({ length: EVENTS - begin.length }, (_, at): Request => {
    const key = bytes(at % 30, 4);
    const target = fd(3 + (at % 4));
    if (at % 5 === 4) return { ...session, cmd: CMD.BPF_MAP_LOOKUP_ELEM, target, key, value: null, flags: 0n };
    const value = bytes(at, at % 4 === 3 ? 16 : 8);
    return { ...session, cmd: CMD.BPF_MAP_UPDATE_ELEM, target, key, value, flags: at % 50 === 0 ? 2n ** 60n + 1n : 0n };
  });
  return [...begin, ...work];
}

function fd(number: number): { readonly by: "fd"; readonly fd: number } {
  return { by: "fd", fd: number };
}

interface Named {
  readonly name: string;
  readonly sql: string;
}

let copies = 0;

/** A copy of the clean directory, to do harm to. */
function copy(): string {
  const data = join(root, `copy${++copies}`);
  cpSync(clean, data, { recursive: true });
  return data;
}

function run(data: string, file: "events" | "tree", sql: string): void {
  const db = new Sqlite(join(data, `${file}.sqlite`));
  const triggers = db.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").all() as Named[];
  db.exec(sql);
  // What is in the way of the harm is put back, so that it is the harm that is found.
  const left = new Set(db.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").pluck().all());
  for (const { name, sql } of triggers) if (!left.has(name)) db.exec(sql);
  db.close();
}

function factOf(data: string, name: string): string {
  const db = new Sqlite(join(data, "events.sqlite"), { readonly: true });
  const value = db.prepare("SELECT value FROM ledger WHERE name = ?").pluck().get(name) as string;
  db.close();
  return value;
}

async function verified(data: string, kept: KeptCheckpoint | null = null, by: Verifier = signer): Promise<Verified> {
  const outside = kept === null ? [] : [{ ...kept, outside: "kept" }];
  return verify({ data, archive: null, trusted: [by], outside, checks: HERE, progress() {} });
}

async function firstFinding(data: string, kept: KeptCheckpoint | null = null): Promise<string> {
  return findingText((await verified(data, kept)).findings[0] ?? ({ seq: null, text: "nothing is wrong" } as Finding));
}

const { kept400, kept700 } = await make();

t.test("nothing is wrong where nothing was done", async (t) => {
  const { findings, log, lastSeq, treeSize, state } = await verified(copy());
  t.same(findings, []);
  t.match(
    { log, lastSeq, treeSize },
    { log: { events: EVENTS, checkpoints: 3, signedSize: EVENTS }, lastSeq: EVENTS, treeSize: EVENTS },
  );
  t.match(state, { none: null, seq: EVENTS });
  t.ok(state.cells > 70, `${state.cells} cells`);
});

/** SQL on events, and what is found first. Of each column a change; rows taken, put and moved. */
const TAMPERED: readonly [sql: string, found: string | RegExp][] = [
  ...[
    "seq = 9999",
    "time_us = time_us + 1",
    "session = 2",
    "caller = 'alicf'",
    "cmd = 3",
    "map = map + 1",
    "fd = 4",
    "fd = NULL",
    "key = x'01000001'",
    "key = NULL",
    "value = x'0100000000000001'",
    "value = NULL",
    "flags = 1",
    "ret = 1",
    "errno = 1",
    "detail = ''",
    "attr = ''",
    "out = ''",
  ].map((change): [string, string] => [
    `UPDATE events SET ${change} WHERE seq = 17`,
    change.startsWith("seq") ? "event 17: it is missing" : "event 17: it differs from the event that the tree has",
  ]),
  ["UPDATE events SET flags = flags - 1 WHERE seq = 59", "event 59: it differs from the event that the tree has"],
  [
    "UPDATE events SET attr = replace(attr, char(65533), CAST(x'FF' AS TEXT)) WHERE seq = 1",
    "event 1: it differs from the event that the tree has",
  ],
  ["UPDATE events SET detail = 'x' WHERE seq = 600", "event 600: it differs from the event that the tree has"],
  ["UPDATE events SET errno = 5 WHERE seq IN (500, 20, 300)", "event 20: it differs from the event that the tree has"],
  ["DELETE FROM events WHERE seq = 1", "event 1: it is missing"],
  ["DELETE FROM events WHERE seq = 300", "event 300: it is missing"],
  ["DELETE FROM events WHERE seq = 700", "event 700: it is missing: the tree has events up to 700"],
  ["DELETE FROM events", "event 1: it is missing: the tree has events up to 700"],
  [
    "DELETE FROM events WHERE seq = 300; UPDATE events SET seq = seq - 1 WHERE seq > 300",
    "event 300: it differs from the event that the tree has",
  ],
  [
    `UPDATE events SET seq = -seq WHERE seq >= 300; UPDATE events SET seq = 1 - seq WHERE seq < 0;
    INSERT INTO events SELECT 300, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out FROM events WHERE seq = 299`,
    "event 300: it differs from the event that the tree has",
  ],
  [
    "UPDATE events SET seq = 0 WHERE seq = 310; UPDATE events SET seq = 310 WHERE seq = 311; UPDATE events SET seq = 311 WHERE seq = 0",
    "event 310: it differs from the event that the tree has",
  ],
  [
    "INSERT INTO events SELECT 701, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out FROM events WHERE seq = 699",
    "event 701: event 701 came into the log after the service had stopped at 700",
  ],
  [
    "INSERT INTO events SELECT -5, time_us, session, caller, cmd, map, fd, key, value, flags, ret, errno, detail, attr, out FROM events WHERE seq = 699",
    "the log has 1 rows with a seq below 1",
  ],
  ["UPDATE ledger SET value = 'x' WHERE name = 'id'", /^the tree's log is .*, this log is x$/],
  ["UPDATE ledger SET value = '3' WHERE name = 'possible_cpus'", "the log was for 2 possible CPUs, now it says 3"],
  [
    "UPDATE commands SET name = 'BPF_MAP_LOOKUP_ELEM' WHERE cmd = 3",
    "the log names command 3 BPF_MAP_LOOKUP_ELEM, but its name is BPF_MAP_DELETE_ELEM",
  ],
  ["UPDATE errors SET name = 'EPERM' WHERE errno = 2", "the log names errno 2 EPERM, but its name is ENOENT"],
];

for (const [sql, found] of TAMPERED)
  t.test(`found: ${sql.replace(/\s+/g, " ").slice(0, 150)}`, async (t) => {
    const data = copy();
    run(data, "events", sql);
    const first = await firstFinding(data);
    if (typeof found === "string") t.equal(first, found);
    else t.match(first, found);
  });

const STAY = "DROP TRIGGER IF EXISTS checkpoints_stay; DROP TRIGGER IF EXISTS checkpoints_are_kept;";

const TAMPERED_TREE: readonly [sql: string, found: string | RegExp][] = [
  [
    "UPDATE tiles SET hashes = CAST(substr(hashes, 1, 32 * 16) || zeroblob(32) || substr(hashes, 1 + 32 * 17) AS BLOB) WHERE level = 0 AND tile = 0",
    "event 17: the tree's hash of it was changed: the event matches the hash of its tile, one level above",
  ],
  [
    "UPDATE tiles SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB) WHERE level = 0 AND tile = 2",
    "event 513: it differs from the event that the tree has",
  ],
  [
    "UPDATE tiles SET hashes = CAST(substr(hashes, 1, 32) || zeroblob(32) AS BLOB) WHERE level = 1",
    "event 257: the tree's hash over events 257 to 512 does not match the hashes below it",
  ],
  [
    "DELETE FROM tiles WHERE level = 1",
    "event 1: the tree's hash over events 1 to 256 does not match the hashes below it",
  ],
  [
    `${STAY} UPDATE checkpoints SET root = zeroblob(32) WHERE size = 400`,
    "the checkpoint of size 400: the signed note has another origin, size or root",
  ],
  [
    `${STAY} UPDATE checkpoints SET note = replace(note, '400', '401') WHERE size = 400`,
    /^the checkpoint of size 400: the signature of mapledger\/x does not hold$/,
  ],
  [
    `${STAY} DELETE FROM checkpoints WHERE size = 300; UPDATE checkpoints SET size = 300 WHERE size = 400`,
    "the checkpoint of size 300: the signed note has another origin, size or root",
  ],
  ["UPDATE tree SET log = 'x'", /^the tree's log is x, this log is /],
];

for (const [sql, found] of TAMPERED_TREE)
  t.test(`found: ${sql.slice(0, 150)}`, async (t) => {
    const data = copy();
    run(data, "tree", sql);
    const first = await firstFinding(data);
    if (typeof found === "string") t.equal(first, found);
    else t.match(first, found);
  });

t.test("an event and the whole tree that were made to fit each other contradict what was signed", async (t) => {
  const data = copy();
  run(data, "events", "UPDATE events SET caller = 'bob' WHERE seq = 350");
  run(data, "tree", "DELETE FROM tiles; UPDATE tree SET closed = NULL");
  t.throws(() => sign(data, true), { message: /^the tree has 0 events, a checkpoint of size 700 was signed$/ });
  t.equal(
    await firstFinding(data),
    "event 301: it, or an event up to 400, differs from the signed log: the checkpoint of size 400 has another root",
  );
  // Whoever has the key as well, and removes what was signed, is found out by who has kept a checkpoint.
  run(data, "tree", `${STAY} DELETE FROM checkpoints`);
  rmSync(join(data, "checkpoint"));
  sign(data, true);
  t.equal(await firstFinding(data), "nothing is wrong");
  t.equal(
    await firstFinding(data, kept400),
    "event 1: it, or an event up to 400, differs from the signed log: the checkpoint of size 400 in kept has another root",
  );
  run(data, "events", "DELETE FROM events WHERE seq > 390");
  run(data, "tree", `${STAY} DELETE FROM checkpoints; DELETE FROM tiles; UPDATE tree SET closed = NULL`);
  rmSync(join(data, "state"), { recursive: true });
  t.equal(await firstFinding(data, kept400), "event 391: it is missing: a checkpoint of size 400 was signed");
});

t.test("another key's signatures do not count", async (t) => {
  const data = copy();
  const other = signerOf("mapledger/x", generateKeyPairSync("ed25519").privateKey);
  const { findings } = await verified(data, null, other);
  t.equal(findings.length, 4);
  t.match(findings[0]?.text, /^the checkpoint of size 300: not signed by mapledger\/x\+/);
});

t.test("how far the tree vouches is told, also where there is none", async (t) => {
  const data = copy();
  rmSync(join(data, "checkpoint"));
  run(
    data,
    "tree",
    `${STAY} DELETE FROM checkpoints WHERE size = 700; DELETE FROM tiles WHERE tile = 2; UPDATE tree SET closed = NULL`,
  );
  const behind = await verified(data);
  t.same([behind.findings, behind.treeSize, behind.log.checkpoints], [[], 512, 2]);
  run(data, "events", "UPDATE events SET time_us = 5 WHERE seq = 600");
  t.equal(await firstFinding(data), "event 600: its time is before that of the previous event");
  rmSync(join(data, "tree.sqlite"));
  const without = await verified(data);
  t.same([without.treeSize, without.findings.length], [null, 2]);
  t.match(without.findings[1], { seq: null, text: /^there is no tree\.sqlite: nothing vouches for the events$/ });
  run(data, "events", "DELETE FROM events WHERE seq = 100");
  t.equal(await firstFinding(data), "event 100: it is missing");
});

/** Changes to cells of the state. */
const TAMPERED_STATE: readonly [what: string, change: (cells: Cells) => void, found: RegExp][] = [
  [
    "a byte of a value",
    (cells) => flip(cells, "e\0\0\0\x01"),
    /^after event 700 an element of map 1 \(cell 6500000001.*\) is .* in the state, the events give /,
  ],
  [
    "an element less",
    (cells) => cells.removeSync(first(cells, "e\0\0\0\x03")),
    /^after event 700 an element of map 3 \(cell .*\) is missing in the state$/,
  ],
  [
    "an element more",
    (cells) => cells.putSync("e\0\0\0\x01zzzz", Buffer.alloc(8)),
    /^after event 700 an element of map 1 .* is in the state, but no event put it there$/,
  ],
  [
    "an element of a map that is no more",
    (cells) => cells.putSync("e\0\0\0\x05zzzz", Buffer.alloc(8)),
    /^after event 700 an element of map 5 .* no event put it there$/,
  ],
  [
    "a use less",
    (cells) => cells.removeSync(first(cells, "u\0\0\0\x03")),
    /^after event 700 an element's use of map 3 .* is missing/,
  ],
  ["a session's caller", (cells) => flip(cells, "s"), /^after event 700 a session \(cell .*\) is /],
  ["a counter", (cells) => flip(cells, "c"), /^after event 700 a counter /],
  [
    "the last cell",
    (cells) => cells.putSync("\xff\xff", Buffer.alloc(1)),
    /^after event 700 an object \(cell ffff\) is in the state/,
  ],
  ["its seq", (cells) => cells.putSync("\0", double(701)), /^the state has events up to 701, the log ends at 700$/],
];

type Cells = ReturnType<typeof openState>;

function openState(folder: string) {
  return open<Buffer, string>({
    path: join(folder, "data.mdb"),
    noSubdir: true,
    encoding: "binary",
    keyEncoder: {
      writeKey: (key: string, target: Buffer, at: number) => at + target.write(key, at, "latin1"),
      readKey: (source: Buffer, from: number, to: number) => source.toString("latin1", from, to),
    },
  } as Parameters<typeof open<Buffer, string>>[0]);
}

function first(cells: Cells, prefix: string): string {
  for (const { key } of cells.getRange({ start: prefix })) return key;
  throw new Error("there is none");
}

function flip(cells: Cells, prefix: string): void {
  const key = first(cells, prefix);
  const value = Buffer.from(cells.get(key) as Buffer);
  value[value.length - 1] = (value[value.length - 1] as number) ^ 1;
  cells.putSync(key, value);
}

function double(number: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeDoubleLE(number);
  return buffer;
}

for (const [what, change, found] of TAMPERED_STATE)
  t.test(`found in the state: ${what}`, async (t) => {
    const data = copy();
    await changeState(data, change);
    t.match(await firstFinding(data), found);
  });

function changeState(data: string, change: (cells: Cells) => void): Promise<void> {
  return changeCells(join(data, "state"), change);
}

async function changeCells(folder: string, change: (cells: Cells) => void): Promise<void> {
  const cells = openState(folder);
  change(cells);
  await cells.close();
  // Its size is said beside it.
  const file = join(folder, "marker.json");
  const marker = JSON.parse(readFileSync(file, "utf8"));
  writeFileSync(file, JSON.stringify({ ...marker, closedBytes: readFileSync(join(folder, "data.mdb")).length }));
}

t.test("elements of freed maps that are not reclaimed yet do no harm", async (t) => {
  const data = copy();
  await changeState(data, (cells) => {
    cells.putSync("g\0\0\0\x05", Buffer.alloc(0));
    cells.putSync("e\0\0\0\x05zzzz", Buffer.alloc(8));
  });
  t.same((await verified(data)).findings, []);
});

t.test(
  "a state that is behind is held against the events up to where it is; one that is none, or unfit, is told of",
  async (t) => {
    const data = copy();
    rmSync(join(data, "state"), { recursive: true });
    t.match((await verified(data)).state, { findings: [], none: "there is none" });
    const store = new LmdbStore(join(data, "state"), new SqliteLogRows(join(data, "events.sqlite"), true).id);
    await store.close();
    t.match((await verified(data)).state, { findings: [], none: null, seq: 0, cells: 0 });
    writeFileSync(join(data, "state", "data.mdb"), "short");
    t.match((await verified(data)).state, { findings: [], none: /^it is (no|not an) LMDB file|^it has 5 bytes/ });
  },
);

t.test("a state that kills who reads it is a finding, and a damaged log is one, too", async (t) => {
  const data = copy();
  const file = join(data, "state", "data.mdb");
  const bytes = readFileSync(file);
  bytes.fill(0xff, 2 * 4096);
  writeFileSync(file, bytes);
  const parts = { data, archive: null, trusted: [signer], outside: [], checks: APART, progress() {} };
  const { findings } = await verify(parts);
  t.match(findings, [{ seq: null, text: /^the state cannot be read: |^after event/ }]);
  const log = join(data, "events.sqlite");
  const pages = readFileSync(log);
  pages.fill(0xa5, 7 * 4096, 8 * 4096);
  writeFileSync(log, pages);
  t.match(
    findingText((await verify(parts)).findings[0] as Finding),
    /^event \d+: it (cannot be read: |is missing|differs from)/,
  );
});

t.test("an event that cannot be replayed is named", async (t) => {
  const data = copy();
  run(data, "events", "UPDATE events SET attr = '{' WHERE seq = 3");
  const { findings } = await verified(data);
  t.match(findings.map(findingText), [
    "event 3: it differs from the event that the tree has",
    /^the log cannot be replayed: reading event 3: /,
  ]);
});

t.test("mapledger verify says what it looked at, names what is wrong, and ends with 1 then", async (t) => {
  const data = copy();
  const good = await mapledger("verify", data, "--key", signer.vkey);
  t.equal(good.code, 0, good.stderr);
  t.match(
    good.stdout,
    new RegExp(
      [
        "^events       700",
        "tree         has all events",
        "checkpoints  3 hold, up to event 700",
        "signed       events 1 to 700",
        "key          mapledger/x\\+.*",
        "state        \\d+ cells equal those that the events up to 700 give",
        "$",
      ].join("\n"),
    ),
  );
  run(data, "events", "UPDATE events SET value = x'00' WHERE seq = 650");
  const bad = await mapledger("verify", data);
  t.equal(bad.code, 1);
  t.match(bad.stdout, /^WRONG event 650: it differs from the event that the tree has\n/);
  t.match(bad.stdout, "named by the directory itself");
  const file = join(root, "kept");
  writeFileSync(file, kept400.note);
  writeFileSync(`${file}.key`, `${signer.vkey}\n`);
  const kept = await mapledger("verify", copy(), "--key", `${file}.key`, "--checkpoint", file);
  t.match(kept, { code: 0, stdout: /4 hold/ });
});

t.test("mapledger verify says what it cannot do", async (t) => {
  const rows: readonly [words: string[], code: number, said: RegExp][] = [
    [["verify", join(root, "nowhere")], 1, /^mapledger: verifying .*nowhere: it has no events.sqlite\n$/],
    [["verify", clean, "--key", "x"], 2, /It is neither a verifier key/],
    [["verify", clean, "--checkpoint", "x"], 2, /--checkpoint needs --key or --witness/],
    [["verify", clean, "--key", signer.vkey, "--checkpoint", join(clean, "marker")], 1, /no such file/],
  ];
  for (const [words, code, said] of rows) t.match(await mapledger(...words), { code, stderr: said }, words.join(" "));
});

t.test("archived events are verified from their archive, and without it as far as the tree has them", async (t) => {
  const data = copy();
  const ran = await mapledger("archive", "--data", data, "--before", "301");
  t.equal(ran.code, 0, ran.stderr);
  const whole = await verified(data);
  t.same([whole.findings, whole.log.checkpoints, whole.log.events], [[], 3, EVENTS + 1]);
  t.match(whole, { archived: { through: 300, unread: null }, state: { none: null, seq: EVENTS } });

  run(data, "events", "UPDATE events SET caller = 'bob' WHERE seq = 310");
  t.equal(await firstFinding(data), "event 310: it differs from the event that the tree has");
  run(data, "events", "UPDATE events SET caller = 'alice' WHERE seq = 310");

  const entries = JSON.parse(factOf(data, "archived_entries")) as { first: number; entries: string };
  t.equal(entries.first, 257);
  const other = { ...entries, entries: Buffer.alloc(44 * ENTRY_BYTES).toString("base64") };
  run(data, "events", `UPDATE ledger SET value = '${JSON.stringify(other)}' WHERE name = 'archived_entries'`);
  t.equal(await firstFinding(data), "event 257: the entry that the ledger keeps for it does not match it");
  run(data, "events", `UPDATE ledger SET value = '${JSON.stringify(entries)}' WHERE name = 'archived_entries'`);

  const tile = join(data, "archive", "tile", "0", "001.p", "44");
  const hashes = readFileSync(tile);
  writeFileSync(tile, Buffer.concat([hashes.subarray(0, -1), Buffer.from([(hashes.at(-1) as number) ^ 1])]));
  t.match(await firstFinding(data), /tile\/0\/001\.p\/44 differs from the tile of the archived events$/);
  rmSync(tile);
  t.match(await firstFinding(data), /tile\/0\/001\.p\/44 is missing$/);
  writeFileSync(tile, hashes);

  const segment = join(
    data,
    "archive",
    readdirSync(join(data, "archive")).find((name) => name.startsWith("events-")) as string,
  );
  const bytes = readFileSync(segment);
  writeFileSync(
    segment,
    Buffer.concat([bytes.subarray(0, 99), Buffer.from([(bytes[99] as number) ^ 1]), bytes.subarray(100)]),
  );
  t.match(await firstFinding(data), /^event 1: it cannot be read: the archive is damaged: .*recorded SHA-256/);

  rmSync(join(data, "archive"), { recursive: true });
  const without = await verified(data);
  t.match(without.findings.map(findingText), [/^archived events cannot be read: .* is not an archive/]);
  t.same([without.findings.length, without.log.checkpoints, without.log.events], [1, 3, EVENTS + 1]);
  t.match(without.archived, { through: 300, unread: /is not an archive/ });
  run(
    data,
    "tree",
    "UPDATE tiles SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB) WHERE level = 0 AND tile = 0",
  );
  t.equal(await firstFinding(data), "event 1: the tree's hash over events 1 to 256 does not match the hashes below it");
});

t.test("a ledger that says more is archived than an event does is found", async (t) => {
  const data = copy();
  const fact = JSON.stringify({ through: 300, timeUs: 0, directory: "", state: "" });
  run(data, "events", `INSERT INTO ledger VALUES ('archived', '${fact}'); DELETE FROM events WHERE seq <= 300`);
  const texts = (await verified(data)).findings.map(findingText);
  t.ok(
    texts.includes("the ledger says that events up to 300 are archived, the log's events say up to 0"),
    texts.join("; "),
  );
});

/** What somebody puts into a database that changes nothing that is hashed. */
const SCHEMAS: readonly [file: "events" | "tree", sql: string, found: string][] = [
  [
    "events",
    "CREATE TRIGGER lost AFTER INSERT ON events WHEN new.caller = 'eve' BEGIN DELETE FROM events WHERE seq = new.seq; END",
    'events.sqlite: it has the trigger "lost" on "events", which no migration makes',
  ],
  [
    "events",
    "DROP VIEW readable; CREATE VIEW readable AS SELECT * FROM events WHERE caller <> 'eve'",
    'events.sqlite: the view "readable" differs from the one that the migrations make',
  ],
  ["events", "DROP VIEW readable", 'events.sqlite: it does not have the view "readable"'],
  [
    "events",
    "CREATE INDEX by_caller ON events (caller)",
    'events.sqlite: it has the index "by_caller" on "events", which no migration makes',
  ],
  ["tree", "CREATE TABLE other (x)", 'tree.sqlite: it has the table "other", which no migration makes'],
  [
    "events",
    "PRAGMA user_version = 99",
    "events.sqlite: it was written by a newer mapledger (version 99, this mapledger knows 2)",
  ],
];

for (const [file, sql, found] of SCHEMAS)
  t.test(`found: ${sql.slice(0, 100)}`, async (t) => {
    const data = copy();
    run(data, file, sql);
    t.ok((await verified(data)).findings.map(findingText).includes(found), found);
  });

t.test("an index that does not find an event is found", async (t) => {
  const data = copy();
  await makeIndex(data);
  t.same((await verified(data)).findings, []);
  const seq = (number: number): string => `\0\0\0\0\0${String.fromCharCode(number)}`;
  const caller = (name: string): string => `a${String.fromCharCode(name.length)}${name}${seq(1)}`;
  const first = (store: Pick<StateStore, "range">, table: string): string =>
    firstIn(store, table, afterPrefix(table))?.[0] ?? "";
  const rows: readonly (readonly [change: Parameters<typeof changeIndex>[1], found: RegExp])[] = [
    [(store) => [[first(store, "a"), null]], /^event 1: index\/ does not find this event by its caller$/],
    [
      () => [[caller("eve"), Buffer.from([0, 76])]],
      /^event 77: index\/ finds this event by a caller that it does not have$/,
    ],
    [
      (store) => [[first(store, "k"), null]],
      /^event 1: index\/ has other entries in the segment that begins with this event$/,
    ],
    [
      () => [[`m${seq(1)}${seq(9)}`, Buffer.from([0, 0])]],
      /^event 9: index\/ has entries of a segment that begins with this event, but not the segment$/,
    ],
    [() => [[`z${seq(2)}`, Buffer.from(seq(5), "latin1")]], /^index\/ has another size for the keys of map 2$/],
    [(store) => [[first(store, "n"), null]], /^index\/ cannot be compared: the index has segments up to/],
  ];
  for (const [change, found] of rows) {
    const changed = join(root, `index${++copies}`);
    cpSync(data, changed, { recursive: true });
    await changeIndex(changed, change);
    t.match(await firstFinding(changed), found);
  }
});

t.test("a history that does not say what events say is found", async (t) => {
  const data = copy();
  const log = new SqlitePastLog(join(data, "events.sqlite"));
  const { id } = log;
  const openIn = (data: string): RunsStore => new RunsStore(join(data, "history"), id, { filtered: VERSION_FILTER });
  const history = new History(log, openIn(data), HOST);
  await history.reach(EVENTS);
  await history.close();
  log.close();
  t.same((await verified(data)).findings, []);
  const flipped = (bytes: Buffer): Buffer =>
    Buffer.concat([bytes.subarray(0, -1), Buffer.from([~(bytes.at(-1) as number)])]);
  /** The cell that takes the place of a version, or that is added. */
  type Changed = (version: Cell) => readonly [CellKey, Buffer | null];
  const rows: readonly [what: string, map: string, changed: Changed, found: RegExp][] = [
    [
      "a value",
      "e\0\0\0\x01",
      ([key, bytes]) => [key, flipped(bytes)],
      /^event \d+: the history has a value that no event gave$/,
    ],
    [
      "a version less",
      "e\0\0\0\x02",
      ([key]) => [key, null],
      /^event \d+: the history lacks a value that an event gave, or has another$/,
    ],
    [
      "a copy in another image",
      "e\0\0\0\x01",
      ([key, bytes]) => [inImage(key, 5), flipped(bytes)],
      /^event \d+: the history has (two values from one event|a value that no event gave|a version where no read finds it)$/,
    ],
    [
      "a version in another image",
      "e\0\0\0\x01",
      ([key, bytes]) => [inImage(key, 5), bytes],
      /where no read finds it$/,
    ],
  ];
  for (const [what, map, change, found] of rows) {
    const changed = join(root, `history${++copies}`);
    cpSync(data, changed, { recursive: true });
    const store = openIn(changed);
    await store.write([change(firstIn(store, map, afterPrefix(map)) as Cell)], store.seq);
    await store.close();
    t.match(await firstFinding(changed), found, what);
  }
  const same = join(root, `history${++copies}`);
  cpSync(data, same, { recursive: true });
  const store = openIn(same);
  const [key, bytes] = firstIn(store, "e\0\0\0\x01", "e\0\0\0\x02") as Cell;
  await store.write([[inImage(key, EVENTS), bytes]], store.seq);
  await store.close();
  t.same((await verified(same)).findings, [], "an equal copy in an image that was never completed");
});

/** The key of the same version in an image that begins with event `start`. */
function inImage(key: CellKey, start: number): CellKey {
  const image = "e\0\0\0\x01".length + SEQ_BYTES;
  return versionKey(key.slice(0, 5), start, 1, true).slice(0, image) + key.slice(image);
}

t.test("a checkpoint's event holds the ledger's facts", async (t) => {
  const data = copy();
  const log = new SqliteEventLog(join(data, "events.sqlite"));
  const attr = { size: 400, log: log.id, possible_cpus: "2", life: log.life, note: kept400.note };
  const command = { session: 0, caller: "mapledger", timeUs: log.lastTimeUs, cmd: CMD.CHECKPOINT, attr };
  log.append([{ seq: EVENTS + 1, command, outcome: done(0) }]);
  log.close();
  sign(data, true);
  t.same((await verified(data)).findings, []);
  run(data, "events", "UPDATE ledger SET value = '3' WHERE name = 'possible_cpus'");
  run(data, "tree", "UPDATE tree SET possible_cpus = '3'");
  t.match(await firstFinding(data), /^event 701: the log was for 2 possible CPUs, now it says 3$/);
  run(data, "events", "UPDATE ledger SET value = '2' WHERE name = 'possible_cpus'");
  run(data, "tree", "UPDATE tree SET possible_cpus = '2'");
  run(data, "events", "DELETE FROM ledger WHERE name = 'checkpoint'");
  t.equal(await firstFinding(data), `the ledger's fact "checkpoint" differs from the log's events`);
});

t.test("with a stolen key, checkpoints that were kept elsewhere give the narrowest range", async (t) => {
  const data = copy();
  const early = await verified(data, kept400);
  t.same([early.findings, early.log.outsideSize], [[], 400]);
  // The key's thief changes an event, and signs all of it anew.
  run(data, "events", "UPDATE events SET caller = 'bob' WHERE seq = 650");
  run(data, "tree", `${STAY} DELETE FROM checkpoints; DELETE FROM tiles; UPDATE tree SET closed = NULL`);
  sign(data, true);
  const outside = [
    { ...kept700, outside: "b" },
    { ...kept400, outside: "a" },
  ];
  const { findings } = await verify({ data, archive: null, trusted: [signer], outside, checks: HERE, progress() {} });
  t.equal(
    findings.map(findingText)[0],
    "event 401: it, or an event up to 700, differs from the signed log: the checkpoint of size 700 in b has another root",
  );
});

t.test("mapledger verify takes the cosignatures of witnesses, of both types", async (t) => {
  const file = join(root, "cosigned");
  const witnesses = [newWitness("w1.example.org", "ed25519"), newWitness("w2.example.org", "ml-dsa-44")];
  const stranger = newWitness("w3.example.org", "ed25519");
  writeFileSync(file, kept400.note + witnesses.map((witness) => witness.line(kept400.note)).join(""));
  const data = copy();
  const words = ["verify", data, "--checkpoint", file];
  const by = (all: readonly { readonly vkey: string }[]): string[] => all.flatMap(({ vkey }) => ["--witness", vkey]);
  const good = await mapledger(...words, ...by(witnesses));
  t.equal(good.code, 0, good.stderr);
  t.match(
    good.stdout,
    "outside      events 1 to 400 are unchanged since the checkpoint that was kept elsewhere; only the directory's own key vouches for events 401 to 700",
  );
  t.match(await mapledger(...words, ...by([...witnesses, stranger])), {
    code: 1,
    stderr: /2 of the witnesses have cosigned it, 3 are needed/,
  });
  t.match(await mapledger(...words, ...by([...witnesses, stranger]), "--quorum", "2"), { code: 0 });
  t.match(await mapledger(...words, ...by([stranger]), "--quorum", "2"), {
    code: 2,
    stderr: /--quorum is 2, but there are 1/,
  });
});
