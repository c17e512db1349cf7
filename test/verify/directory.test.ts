import { generateKeyPairSync } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import Sqlite from "better-sqlite3";
import t from "tap";
import { sha256Of, writeKey } from "../../src/files/contents.ts";
import { ENTRY_BYTES } from "../../src/log/canonical.ts";
import { HERE } from "../../src/verify/derived_process.ts";
import { findingText } from "../../src/verify/finding.ts";
import { verify } from "../../src/verify/verify.ts";
import { mapledger } from "../support/cli.ts";
import { HOST } from "../support/commands.ts";
import { changeIndex, makeIndex } from "../support/made_index.ts";
import { startService } from "../support/service_process.ts";
import { writeLog } from "../support/write_log.ts";

/** Whatever is changed in a data directory or in its archive, verify says. The clean one is as the service and the command line leave it. */
const root = mkdtempSync(join(tmpdir(), "mapledger-directory-"));
const clean = join(root, "clean");
t.teardown(() => rmSync(root, { recursive: true }));

/** Events that are archived, in two jobs. */
const ARCHIVED = [300, 340] as const;
const STATES = ["state-000000000300.ndjson.zst", "state-000000000340.ndjson.zst"] as const;
const EVENTS = "events-000000000001-000000000300.ndjson.zst";

t.before(async () => {
  const made = join(root, "made");
  await writeLog(made);
  const service = await startService({
    MAPLEDGER_DATA: made,
    MAPLEDGER_MIRROR: "off",
    MAPLEDGER_CPUS: String(HOST.possibleCpus),
    MAPLEDGER_CHECKPOINT_SECONDS: "3600",
  });
  for (const path of ["/v1/events?map=1", "/v1/maps/1/elements?at=200"]) {
    const response = await fetch(`${service.url}${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
  }
  await service.end("SIGTERM");
  for (const words of [
    ...ARCHIVED.map((through) => ["archive", "--before", String(through + 1), "--data", made]),
    ["key", "rotate", "--data", made],
  ]) {
    const { code, stderr } = await mapledger(...words);
    if (code !== 0) throw new Error(`${words.join(" ")}: ${stderr}`);
  }
  // The ledger has the place of its archive: a copy has its own where that is gone.
  renameSync(made, clean);
});

let copies = 0;

function copy(): string {
  const data = join(root, `copy${++copies}`);
  cpSync(clean, data, { recursive: true });
  return data;
}

/** Runs SQL on one of its databases. Triggers that are in the way are put back. */
function run(data: string, file: "events" | "tree" | "lock", sql: string): void {
  const db = new Sqlite(join(data, `${file}.sqlite`));
  const triggers = db.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").all() as Named[];
  for (const { name } of triggers) db.exec(`DROP TRIGGER ${name}`);
  db.exec(sql);
  for (const trigger of triggers) db.exec(trigger.sql);
  db.close();
}

interface Named {
  readonly name: string;
  readonly sql: string;
}

function setFact(data: string, name: string, change: (fact: string) => string): void {
  const db = new Sqlite(join(data, "events.sqlite"));
  const fact = db.prepare("SELECT value FROM ledger WHERE name = ?").pluck().get(name) as string;
  db.prepare("UPDATE ledger SET value = ? WHERE name = ?").run(change(fact), name);
  db.close();
}

/** Changes the kept entries of archived events. */
function setEntries(
  data: string,
  change: (entries: Buffer, first: number) => { first?: number; entries: Buffer },
): void {
  setFact(data, "archived_entries", (fact) => {
    const { first, entries } = JSON.parse(fact) as { first: number; entries: string };
    const made = change(Buffer.from(entries, "base64"), first);
    return JSON.stringify({ first: made.first ?? first, entries: made.entries.toString("base64") });
  });
}

function change(file: string, by: (text: string) => string): void {
  writeFileSync(file, by(readFileSync(file, "utf8")));
}

function flip(file: string): void {
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
  writeFileSync(file, bytes);
}

/** Gives a snapshot another cell, and all that tell of its SHA-256 the new one, as who owns the directory can. */
async function forgeState(data: string, state: string, isLast: boolean): Promise<void> {
  const file = join(data, "archive", state);
  const was = await sha256Of(file);
  const lines = zstdDecompressSync(readFileSync(file)).toString().trimEnd().split("\n");
  const at = lines.findLastIndex((line) => line.startsWith('["65'));
  const line = lines[at] as string;
  lines[at] = `${line.slice(0, -3)}${line.at(-3) === "1" ? "2" : "1"}"]`;
  writeFileSync(file, zstdCompressSync(`${lines.join("\n")}\n`));
  const is = await sha256Of(file);
  change(join(data, "archive", "SHA256SUMS"), (text) => text.replace(was, is));
  if (!isLast) return;
  cpSync(file, join(data, state));
  setFact(data, "archived", (fact) => fact.replace(was, is));
}

async function found(data: string, archive: string | null = null): Promise<string[]> {
  const { findings } = await verify({ data, archive, trusted: [], outside: [], checks: HERE, progress() {} });
  return findings.map(findingText);
}

/** What is done to a copy, and what one of the findings says. */
const HARM: readonly [what: string, harm: (data: string) => unknown, says: RegExp][] = [
  // The log's ledger.
  [
    "life",
    (d) => setFact(d, "life", () => "0b1f0000-0000-4000-8000-000000000000"),
    /^the ledger's fact "life" differs from/,
  ],
  ["no life", (d) => run(d, "events", "DELETE FROM ledger WHERE name = 'life'"), /^the ledger has no fact "life"$/],
  ["no id", (d) => run(d, "events", "DELETE FROM ledger WHERE name = 'id'"), /^the ledger has no fact "id"$/],
  [
    "a strange fact",
    (d) => run(d, "events", "INSERT INTO ledger VALUES ('x', '1')"),
    /^the ledger has a fact "x", which/,
  ],
  ["a key's fact", (d) => setFact(d, "key", () => "AdYG"), /^the ledger's fact "key" differs from the log's events$/],
  [
    "a branch",
    (d) => run(d, "events", "INSERT INTO ledger VALUES ('branch', 'x')"),
    /^the ledger's fact "branch" differs from/,
  ],
  ["a checkpoint's fact", (d) => setFact(d, "checkpoint", () => ""), /^the ledger's fact "checkpoint" differs from/],
  [
    "what is archived",
    (d) => setFact(d, "archived", (fact) => fact.replace("340", "300")),
    /^event 301: it is missing$/,
  ],
  [
    "where it is archived",
    (d) => setFact(d, "archived", (fact) => fact.replace('"directory":"', '"directory":"/x')),
    /^the ledger's fact "archived" differs from/,
  ],
  [
    "no JSON",
    (d) => setFact(d, "archived", () => "{"),
    /^the ledger's fact "archived" does not have the form in which mapledger writes it$/,
  ],
  [
    "JSON of another form",
    (d) => setFact(d, "archived", () => "[]"),
    /^the ledger's fact "archived" does not have the form in which mapledger writes it$/,
  ],
  [
    "a strange command",
    (d) => run(d, "events", "INSERT INTO commands VALUES (999, 'X')"),
    /^the log names command 999 X, but this mapledger knows no such command/,
  ],
  [
    "a strange errno",
    (d) => run(d, "events", "INSERT INTO errors VALUES (999, 'EX')"),
    /^the log names errno 999 EX, but this mapledger knows no such errno/,
  ],
  // The entries of archived events.
  [
    "an entry",
    (d) => setEntries(d, (entries) => ({ entries: entries.fill(1, 0, 1) })),
    /^event 257: the entry that the ledger keeps for it/,
  ],
  [
    "the last entry",
    (d) => setEntries(d, (entries) => ({ entries: entries.fill(1, entries.length - 1) })),
    /^event 340: the entry that the ledger keeps for it/,
  ],
  [
    "an entry less",
    (d) => setEntries(d, (entries) => ({ entries: entries.subarray(0, -ENTRY_BYTES) })),
    /^the ledger does not keep the entries of events 257 to 340/,
  ],
  [
    "an entry more",
    (d) => setEntries(d, (entries) => ({ entries: Buffer.concat([entries, entries.subarray(-ENTRY_BYTES)]) })),
    /^the ledger keeps entries of events up to 341, which are not archived/,
  ],
  [
    "half an entry",
    (d) => setEntries(d, (entries) => ({ entries: entries.subarray(0, -1) })),
    /^the ledger's fact "archived_entries" does not have the form in which mapledger writes it$/,
  ],
  [
    "entries of another bundle",
    (d) => setEntries(d, (entries) => ({ first: 1, entries })),
    /^event 1: the entry that the ledger keeps for it/,
  ],
  [
    "no entries",
    (d) => run(d, "events", "DELETE FROM ledger WHERE name = 'archived_entries'"),
    /^the ledger does not keep the entries of events 257 to 340/,
  ],
  // The tree.
  [
    "where the tree was closed",
    (d) => run(d, "tree", "UPDATE tree SET closed = closed + 5"),
    /^tree.sqlite was closed with \d+ events, and has \d+$/,
  ],
  [
    "the tree's origin",
    (d) => run(d, "tree", "UPDATE tree SET origin = 'x'"),
    /^tree.sqlite has the origin x for its key, but that key is named mapledger\//,
  ],
  [
    "a former key's origin",
    (d) => run(d, "tree", "UPDATE signers SET origin = 'x'"),
    /^tree.sqlite has the origin x for its former key/,
  ],
  [
    "a former key",
    (d) => run(d, "tree", "UPDATE signers SET vkey = (SELECT vkey FROM tree)"),
    /^tree.sqlite names the former key .*, which no event names$|not signed by/,
  ],
  ["no former key", (d) => run(d, "tree", "DELETE FROM signers"), /not signed by/],
  [
    "another tree's file",
    (d) => writeFileSync(join(d, "tree.sqlite"), "x".repeat(4096)),
    /^tree.sqlite cannot be read: file is not a database: nothing vouches/,
  ],
  // The key that signs.
  ["no key", (d) => rmSync(join(d, "log.key")), /^log.key is missing: it has signed a checkpoint of size \d+$/],
  [
    "a key that others read",
    (d) => chmodSync(join(d, "log.key"), 0o640),
    /^log.key is open to others: its mode is 0640$/,
  ],
  ["a key that is none", (d) => writeFileSync(join(d, "log.key"), "x"), /^log.key cannot be read: /],
  [
    "another key",
    (d) => writeKey(join(d, "log.key"), generateKeyPairSync("ed25519").privateKey),
    /^log.key is not the key that the tree names, mapledger\//,
  ],
  [
    "a key of another kind",
    (d) => writeKey(join(d, "log.key"), generateKeyPairSync("x25519").privateKey),
    /^log.key cannot be read: .* an Ed25519 key is needed/,
  ],
  [
    "a next key that others read",
    (d) => writeFileSync(join(d, "log.key.next"), readFileSync(join(d, "log.key")), { mode: 0o644 }),
    /^log.key.next is open to others: its mode is 0644$/,
  ],
  // What is sent away.
  ["no checkpoint", (d) => writeFileSync(join(d, "checkpoint"), "x"), /^the file checkpoint is not a checkpoint$/],
  [
    "a checkpoint's size",
    (d) => change(join(d, "checkpoint"), (note) => note.replace(/\n\d+\n/, "\n5\n")),
    /^the file checkpoint: .*(does not hold|is not signed by)/,
  ],
  [
    "another log's checkpoint",
    (d) => change(join(d, "checkpoint"), (note) => note.replaceAll("mapledger/", "mapledger/x")),
    /^the file checkpoint: .*not signed by/,
  ],
  [
    "a checkpoint of a tree that is cut",
    (d) => run(d, "tree", "DELETE FROM tiles WHERE level = 0 AND tile = 1"),
    /^the file checkpoint has size \d+, the tree has 256 events$/,
  ],
  // The lock.
  [
    "what is written to the lock",
    (d) => run(d, "lock", "CREATE TABLE x (x)"),
    /^lock.sqlite has \d+ bytes: it is only a lock/,
  ],
  // The archive.
  [
    "an older snapshot",
    (d) => flip(join(d, "archive", STATES[0])),
    /archive\/state-000000000300.* does not match its recorded SHA-256$/,
  ],
  [
    "the newest snapshot",
    (d) => writeFileSync(join(d, "archive", STATES[1]), "x"),
    /archive\/state-000000000340.* does not match its recorded SHA-256$/,
  ],
  ["no snapshot", (d) => rmSync(join(d, "archive", STATES[1])), /archive\/state-000000000340.* is missing$/],
  [
    "the directory's snapshot",
    (d) => writeFileSync(join(d, STATES[1]), "x"),
    /copy\d+\/state-000000000340.* does not match its recorded SHA-256$/,
  ],
  ["no snapshot in the directory", (d) => rmSync(join(d, STATES[1])), /copy\d+\/state-000000000340.* is missing$/],
  [
    "a forged snapshot",
    (d) => forgeState(d, STATES[1], true),
    /copy\d+\/state-000000000340.* differs from the state after event 340: an element of map/,
  ],
  [
    "a forged older snapshot",
    (d) => forgeState(d, STATES[0], false),
    /archive\/state-000000000300.* differs from the state after event 300/,
  ],
  [
    "a forged older snapshot, by its sums",
    (d) => forgeState(d, STATES[0], false),
    /SHA256SUMS: no ARCHIVE event has this SHA-256 of state-000000000300/,
  ],
  [
    "a snapshot that is not listed",
    (d) => change(join(d, "archive", "SHA256SUMS"), (text) => text.replace(/.*state-000000000300.*\n/, "")),
    /SHA256SUMS does not list state-000000000300/,
  ],
  [
    "a segment that was packed anew",
    async (d) => {
      const file = join(d, "archive", EVENTS);
      const was = await sha256Of(file);
      writeFileSync(file, zstdCompressSync(Buffer.concat([zstdDecompressSync(readFileSync(file)), Buffer.from("\n")])));
      const is = await sha256Of(file);
      change(join(d, "archive", "SHA256SUMS"), (text) => text.replace(was, is));
    },
    /SHA256SUMS: no ARCHIVE event has this SHA-256 of events-000000000001-000000000300/,
  ],
  [
    "a line of the sums",
    (d) => appendFileSync(join(d, "archive", "SHA256SUMS"), "x\n"),
    /^archived events cannot be read: .*SHA256SUMS is damaged/,
  ],
  [
    "whose archive it is",
    (d) => writeFileSync(join(d, "archive", "archive.json"), '{"log":"x"}'),
    /^archived events cannot be read: .* of log x/,
  ],
  [
    "the archive's mark",
    (d) => writeFileSync(join(d, "archive", "archive.json"), "{"),
    /^archived events cannot be read: .*archive.json is damaged/,
  ],
  [
    "the archive's tile",
    (d) => flip(join(d, "archive", "tile", "0", "000")),
    /tile\/0\/000 differs from the tile of the archived events$/,
  ],
  // What is made of the log.
  [
    "no key sizes in the index",
    async (d) => {
      await makeIndex(d);
      await changeIndex(d, () => [["z\0\0\0\0\0\x01", null]]);
    },
    /^index\/ does not have the size of map 1's keys$/,
  ],
];

t.test("nothing is wrong where nothing was done", async (t) => {
  const { code, stdout, stderr } = await mapledger("verify", copy());
  t.equal(code, 0, stdout);
  // On a busy machine it takes more than a second, and says how far it is.
  t.match(stderr, /^(verifying: \d+ of \d+\n)*$/);
  t.match(stdout, /state {8}\d+ cells equal/);
});

for (const [what, harm, says] of HARM)
  t.test(`found: ${what}`, async (t) => {
    const data = copy();
    await harm(data);
    const texts = await found(data);
    t.ok(
      texts.some((text) => says.test(text)),
      `${says} in ${texts.join("; ")}`,
    );
    t.notOk(
      texts.some((text) => /\n/.test(text)),
      "a line each",
    );
  });

t.test("what is left of jobs and keys that died is no harm", async (t) => {
  const data = copy();
  writeFileSync(join(data, "archive", "events-000000000341-000000000400.ndjson.zst"), "x");
  writeKey(join(data, "log.key.next"), generateKeyPairSync("ed25519").privateKey);
  rmSync(join(data, "checkpoint"));
  rmSync(join(data, "lock.sqlite"));
  rmSync(join(data, "index"), { recursive: true, force: true });
  rmSync(join(data, "history"), { recursive: true });
  run(data, "events", "DELETE FROM commands; DELETE FROM errors");
  t.same(await found(data), []);
});

t.test("without the archive the snapshot, the entries and the facts that later events set are looked at", async (t) => {
  const data = copy();
  const archive = join(root, `elsewhere${copies}`);
  renameSync(join(data, "archive"), archive);
  t.same(await found(data, archive), []);
  t.match(await found(data), [/^archived events cannot be read: /]);
  setFact(data, "life", () => "0b1f0000-0000-4000-8000-000000000000");
  setEntries(data, (entries) => ({ entries: entries.fill(1, entries.length - 1) }));
  writeFileSync(join(data, STATES[1]), "x");
  const texts = await found(data);
  for (const says of [/fact "life"/, /^event 340: the entry that the ledger keeps for it/, /state-000000000340/])
    t.ok(
      texts.some((text) => says.test(text)),
      `${says} in ${texts.join("; ")}`,
    );
});

t.test("mapledger verify ends with 1, and without a stack, whatever it finds", async (t) => {
  const rows: readonly [harm: (data: string) => unknown, says: RegExp][] = [
    [
      (d) => setFact(d, "archived", () => "{"),
      /^WRONG .*"archived" does not have the form in which mapledger writes it/m,
    ],
    [
      (d) => writeFileSync(join(d, "events.sqlite"), "x".repeat(4096)),
      /events.sqlite cannot be read: file is not a database/,
    ],
    [
      (d) => run(d, "events", "DROP VIEW readable; DROP TABLE commands"),
      /^WRONG events.sqlite: it does not have the table "commands"$/m,
    ],
    [(d) => forgeState(d, STATES[1], true), /^WRONG .*differs from the state after event 340/m],
  ];
  for (const [harm, says] of rows) {
    const data = copy();
    await harm(data);
    const { code, stdout, stderr } = await mapledger("verify", data);
    t.equal(code, 1);
    t.match(stdout + stderr, says);
    t.notMatch(stdout + stderr, /\n\s+at .*:\d+:\d+/);
  }
});

t.test("a restored ledger's life is the one that its event names", async (t) => {
  const [data, backup] = [join(root, "restored"), join(root, "backup")];
  for (const words of [
    ["backup", backup, "--data", clean],
    ["restore-backup", backup, "--data", data],
  ]) {
    const { code, stderr } = await mapledger(...words);
    t.equal(code, 0, stderr);
  }
  t.same(await found(data), []);
  setFact(data, "life", () => "0b1f0000-0000-4000-8000-000000000000");
  t.match(await found(data), [/^the ledger's fact "life" differs from the log's events$/]);
  t.ok(existsSync(join(data, "archive")) && readdirSync(data).length > 0);
});
