import { execFileSync } from "node:child_process";
import { hash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import Sqlite from "better-sqlite3";
import t from "tap";
import { readOnlyData } from "../../src/data/read_only_copy.ts";
import { mapledger, mapledgerIn } from "../support/cli.ts";
import { type ServiceProcess, startService, startWords } from "../support/service_process.ts";

const folder = mkdtempSync(join(tmpdir(), "mapledger-auditor-"));
const data = join(folder, "data");
const scratches = join(folder, "tmp");
mkdirSync(scratches);
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

type Json = Record<string, unknown>;

async function send(service: ServiceProcess, method: string, path: string, body?: object): Promise<Json> {
  const payload =
    body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
  const response = await fetch(`${service.url}${path}`, { method, ...payload });
  const text = await response.text();
  return { status: response.status, ...(text.startsWith("{") ? JSON.parse(text) : { text }) };
}

/** Every name below a directory, with its mode, its times and what it has. */
function snapshot(directory: string): unknown[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .sort()
    .concat(".")
    .map((name) => {
      const { mode, mtimeMs, ctimeMs, size, nlink } = statSync(join(directory, name));
      const isFile = statSync(join(directory, name)).isFile();
      return [
        name,
        mode,
        mtimeMs,
        ctimeMs,
        size,
        nlink,
        isFile ? hash("sha256", readFileSync(join(directory, name))) : "",
      ];
    });
}

const read = (directory: string, environment: Record<string, string> = {}, run: readonly string[] = []) =>
  startWords(["serve", "--read-only", directory], { TMPDIR: scratches, ...environment }, run);

const first = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
const key = (n: number): string => `0${n}000000`;
await send(first, "POST", "/v1/sessions", {});
const attr = { map_type: "BPF_MAP_TYPE_HASH", map_name: "one", key_size: 4, value_size: 4, max_entries: 16 };
await send(first, "POST", "/v1/sessions/1/maps", attr);
for (let n = 1; n <= 9; n++) await send(first, "PUT", `/v1/maps/1/elements/${key(1 + (n % 2))}`, { value: key(n) });
await send(first, "POST", "/v1/maps/1/pin", { pathname: "/sys/fs/bpf/one" });
await fetch(`${first.url}/checkpoint`);
const last = (await send(first, "GET", "/v1/log")).last_seq as number;

/** Reads that leave no event: what they are answered must be the same of a copy. */
const READS = [
  "/v1/events?limit=100",
  "/v1/events/5",
  "/v1/events/5/proof",
  "/v1/events?changes=true",
  `/v1/maps/1/elements/${key(1)}/history`,
  "/v1/maps/1/diff?from=5",
  "/v1/maps/1/elements?at=6",
  "/v1/pins",
  "/v1/sessions/1/fds",
  "/checkpoint",
  "/tile/0/000.p/5",
];
const answers = await Promise.all(READS.map((path) => send(first, "GET", path)));
await first.end("SIGKILL");

/** Without positions: which life a log has its archive may not say. */
function placeless(answer: unknown): unknown {
  return JSON.parse(
    JSON.stringify(answer, (name, value) => (["position", "next", "prev"].includes(name) ? null : value)),
  );
}

async function check(service: ServiceProcess, reads = READS): Promise<void> {
  for (const path of reads) t.strictSame(await send(service, "GET", path), answers[READS.indexOf(path)], path);
  t.match(await send(service, "GET", `/v1/maps/1/elements/${key(1)}`), { value: key(8), seq: last });
  t.match(await send(service, "GET", "/v1/maps/pinned:%2Fsys%2Ffs%2Fbpf%2Fone/elements"), { elements: [{}, {}] });
  t.match(await send(service, "GET", "/v1/maps"), { maps: [{ id: 1, entries: 2 }] });
  t.match(await send(service, "POST", "/v1/maps/1/batch/lookup", { count: 9 }), { count: 2 });
  const refused = { status: 403, type: "urn:mapledger:problem:read-only" };
  for (const [method, path, body] of [
    ["PUT", `/v1/maps/1/elements/${key(1)}`, { value: key(1) }],
    ["DELETE", `/v1/maps/1/elements/${key(1)}`],
    ["POST", "/v1/sessions", {}],
    ["POST", "/v1/archive", { before: 3 }],
    ["POST", "/v1/maps/1/restore", { at: 3 }],
    ["POST", "/v1/bpf/2", {}],
    ["GET", "/v1/mirror"],
  ] as const)
    t.match(await send(service, method, path, body), path.includes("bpf") ? {} : refused, `${method} ${path}`);
  t.match(await send(service, "GET", "/v1/log"), { last_seq: last, refusal: null });
  t.match(await send(service, "GET", "/readyz"), { degraded: [], mirror: { state: "off" } });
}

t.test("a data directory that a kill has left is served, and not a byte of it changes", async (t) => {
  t.ok(statSync(join(data, "events.sqlite-wal")).size > 0, "it has what only its -wal file has");
  const before = snapshot(data);
  const service = await read(data);
  await check(service);
  t.equal(readdirSync(scratches).length, 1);
  t.equal(statSync(join(scratches, readdirSync(scratches)[0] as string)).mode & 0o777, 0o700);
  t.equal(await service.end("SIGTERM"), 0);
  t.strictSame(snapshot(data), before);
  t.strictSame(readdirSync(scratches), [], "nothing is left of the copies");
});

t.test("a directory that cannot be written to is served as well", async (t) => {
  const bound = join(folder, "bound");
  mkdirSync(bound);
  execFileSync("mount", ["--bind", data, bound]);
  try {
    execFileSync("mount", ["-o", "remount,ro,bind", bound]);
    const service = await read(bound);
    await check(service);
    t.equal(await service.end("SIGTERM"), 0);
  } finally {
    execFileSync("umount", [bound]);
  }
});

t.test(
  "who comes over TCP needs the token of the run, and callers with globs see what their scopes cover",
  async (t) => {
    const tokens = join(folder, "tokens");
    writeFileSync(
      tokens,
      `bob:${hash("sha256", "bobs-token-of-some-length")}:read@/sys/fs/bpf/one\n` +
        `eve:${hash("sha256", "eves-token-of-some-length")}:read@/sys/fs/bpf/other\n`,
    );
    const service = await read(data, { MAPLEDGER_AUTH: "on", MAPLEDGER_TOKENS: tokens });
    const { file } = service.lines.find(({ file }) => typeof file === "string") as { file: string };
    const status = async (path: string, token: string): Promise<number> =>
      (await fetch(`${service.url}${path}`, { headers: { authorization: `Bearer ${token}` } })).status;
    const own = readFileSync(file, "utf8").trim();
    t.equal((await fetch(`${service.url}/v1/maps`)).status, 401);
    for (const path of [
      "/v1/maps/1",
      `/v1/maps/1/elements/${key(1)}`,
      "/v1/events/5",
      `/v1/maps/1/elements/${key(1)}/history`,
    ]) {
      t.equal(await status(path, own), 200, path);
      t.equal(await status(path, "bobs-token-of-some-length"), 200, path);
      t.equal(await status(path, "eves-token-of-some-length"), 403, path);
    }
    t.equal(await service.end("SIGTERM"), 0);
  },
);

t.test("a backup and an archive are served", async (t) => {
  const backup = join(folder, "backup");
  t.match(await mapledger("backup", backup, "--data", data), { code: 0 });
  let before = snapshot(backup);
  let service = await read(backup);
  await check(service);
  t.equal(await service.end("SIGTERM"), 0);
  t.strictSame(snapshot(backup), before);

  const copy = join(folder, "copy");
  cpSync(data, copy, { recursive: true, filter: (name) => !name.endsWith(".sock") });
  const archive = join(folder, "archive");
  const archived = await mapledger("archive", "--before", String(last), "--data", copy, "--archive", archive);
  t.match(archived, { code: 0 }, archived.stderr);
  before = snapshot(archive);
  service = await read(archive);
  for (const path of [
    "/v1/events/5",
    `/v1/maps/1/elements/${key(1)}/history`,
    "/v1/maps/1/elements?at=6",
    "/tile/0/000.p/5",
  ])
    t.strictSame(placeless(await send(service, "GET", path)), placeless(answers[READS.indexOf(path)]), path);
  t.match(await send(service, "GET", `/v1/maps/1/elements/${key(1)}`), { value: key(8), seq: last - 1 });
  t.equal(await service.end("SIGTERM"), 0);
  t.strictSame(snapshot(archive), before);

  service = await read(copy, { MAPLEDGER_ARCHIVE: archive });
  for (const path of ["/v1/events/5", `/v1/maps/1/elements/${key(1)}/history`, "/v1/maps/1/elements?at=6"])
    t.strictSame(await send(service, "GET", path), answers[READS.indexOf(path)], `behind the archive: ${path}`);
  t.equal(await service.end("SIGTERM"), 0);
});

t.test("what cannot be served is refused by what is wrong with it", async (t) => {
  const cases: readonly [what: string, make: (copy: string) => void, why: RegExp][] = [
    ["nothing", (copy) => rmSync(copy, { recursive: true }), /does not exist/],
    ["no log", (copy) => rmSync(join(copy, "events.sqlite")), /its log is gone|there is no events.sqlite/],
    ["another file", (copy) => garble(copy), /damaged/],
    ["a cut log", (copy) => cut(copy), /damaged/],
    ["a newer log", (copy) => newer(copy), /newer mapledger/],
    ["a FIFO", (copy) => fifo(copy, "events.sqlite-wal"), /is a FIFO/],
    ["a link", (copy) => link(copy, "tree.sqlite"), /is a symbolic link/],
    [
      "a view without an end",
      (copy) => sql(copy, "events.sqlite", endless("ledger", "name, value")),
      /damaged: it does not/,
    ],
    [
      "one in the tree",
      (copy) => sql(copy, "tree.sqlite", endless("tiles", "level, tile, hashes")),
      /tree.sqlite is damaged/,
    ],
    [
      "a trigger in the tree",
      (copy) => sql(copy, "tree.sqlite", TRIGGER),
      /tree.sqlite is damaged: it has the trigger/,
    ],
    [
      "a hole",
      (copy) => sql(copy, "events.sqlite", "DELETE FROM events WHERE seq = 5"),
      /damaged: it has 1[0-9] events from 1/,
    ],
    [
      "a seq beyond all",
      (copy) => sql(copy, "events.sqlite", `UPDATE events SET seq = ${2n ** 63n - 1n} WHERE seq = ${last}`),
      /damaged: it has/,
    ],
    [
      "CPUs",
      (copy) => sql(copy, "events.sqlite", "UPDATE ledger SET value = 1e9 WHERE name = 'possible_cpus'"),
      /damaged: .* CPUs/,
    ],
    [
      "an archived fact",
      (copy) => sql(copy, "events.sqlite", "INSERT INTO ledger VALUES ('archived', '{}')"),
      /damaged: the ledger's fact/,
    ],
    [
      "an event that cannot be",
      (copy) => sql(copy, "events.sqlite", "UPDATE events SET attr = '{' WHERE seq = 2"),
      /the state after the events of .* cannot be read/,
    ],
  ];
  for (const [what, make, why] of cases) {
    const copy = join(folder, "case");
    cpSync(data, copy, { recursive: true, filter: (name) => !name.endsWith(".sock") });
    make(copy);
    t.match(await (STARTED.has(what) ? started(copy) : refusal(copy)), why, what);
    rmSync(copy, { recursive: true, force: true });
  }
  t.strictSame(readdirSync(scratches), []);
});

/** Of all that is refused, what a process is started for, to see that it says so and ends. */
const STARTED: ReadonlySet<string> = new Set(["nothing", "a cut log", "an event that cannot be"]);

async function started(copy: string): Promise<string> {
  const settings = { TMPDIR: scratches, MAPLEDGER_PORT: "0", MAPLEDGER_AUTH: "off" };
  const { code, stdout, stderr } = await mapledgerIn(settings, "serve", "--read-only", copy);
  if (code !== 1) throw new Error(`it ended with ${code}: ${stdout}${stderr}`);
  return `${stdout}${stderr}`;
}

async function refusal(copy: string): Promise<string> {
  const scratch = mkdtempSync(join(folder, "scratch-"));
  return readOnlyData(copy, { archive: "", cpus: 0 }, scratch)
    .then(
      () => "it is served",
      ({ message }: Error) => message,
    )
    .finally(() => rmSync(scratch, { recursive: true }));
}

const TRIGGER = "CREATE TRIGGER more BEFORE INSERT ON tiles BEGIN SELECT 1; END";

/** In a table's place: who asks it for anything is never answered. */
function endless(table: string, columns: string): string {
  const numbers =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x, x, x FROM c WHERE abs(x) < 0";
  return `DROP TABLE ${table}; CREATE VIEW ${table}(${columns}) AS SELECT ${columns} FROM (${numbers.replace(
    "x, x, x",
    columns
      .split(", ")
      .map((name) => `x AS ${name}`)
      .join(", "),
  )})`;
}

function sql(copy: string, name: string, statements: string): void {
  const db = new Sqlite(join(copy, name));
  db.exec(statements);
  db.close();
}

function settle(copy: string): void {
  const db = new Sqlite(join(copy, "events.sqlite"));
  db.pragma("wal_checkpoint(TRUNCATE)");
  db.close();
}

function cut(copy: string): void {
  settle(copy);
  truncateSync(join(copy, "events.sqlite"), 3 * 4096);
}

function garble(copy: string): void {
  settle(copy);
  writeFileSync(join(copy, "events.sqlite"), "x".repeat(9000));
}

function newer(copy: string): void {
  const db = new Sqlite(join(copy, "events.sqlite"));
  db.pragma("user_version = 999");
  db.close();
}

function fifo(copy: string, name: string): void {
  rmSync(join(copy, name), { force: true });
  execFileSync("mkfifo", [join(copy, name)]);
}

function link(copy: string, name: string): void {
  rmSync(join(copy, name));
  symlinkSync(join(data, name), join(copy, name));
}

t.test("a directory that a service uses is refused", async (t) => {
  const copy = join(folder, "used");
  cpSync(data, copy, { recursive: true, filter: (name) => !name.endsWith(".sock") });
  chmodSync(copy, 0o700);
  const service = await startService({ MAPLEDGER_DATA: copy, MAPLEDGER_MIRROR: "off" });
  const ran = await mapledgerIn({ TMPDIR: scratches, MAPLEDGER_PORT: "0" }, "serve", "--read-only", copy);
  t.match(ran, { code: 1, stdout: /is in use by a service/ });
  t.equal(await service.end("SIGTERM"), 0);
  t.notOk(existsSync(join(scratches, "x")));
});

t.test("what somebody has added to a log for himself is not looked at, however long that would take", async (t) => {
  const copy = join(folder, "added");
  cpSync(data, copy, { recursive: true, filter: (name) => !name.endsWith(".sock") });
  sql(
    copy,
    "events.sqlite",
    `CREATE TABLE own (x CHECK (length(hex(zeroblob(100000000))) > 0));
     PRAGMA ignore_check_constraints = ON;
     INSERT INTO own WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000) SELECT x FROM c`,
  );
  const service = await read(copy);
  await check(service);
  t.equal(await service.end("SIGTERM"), 0);
});

t.test("what a service that was killed has left goes with the next one; what others have stays", async (t) => {
  const [killed, living] = [await read(data), await read(data)];
  const scratchOf = ({ lines }: ServiceProcess): string =>
    String(lines.find(({ scratch }) => typeof scratch === "string")?.scratch);
  const beingMade = join(scratches, "mapledger-read-only-made");
  const others = join(scratches, "mapledger-read-only-others");
  const elsewhere = join(folder, "elsewhere");
  const linked = join(scratches, "mapledger-read-only-linked");
  for (const [made, mode] of [
    [beingMade, 0o700],
    [others, 0o755],
    [elsewhere, 0o700],
  ] as const)
    mkdirSync(made, { mode });
  for (const made of [others, elsewhere]) writeFileSync(join(made, "lock.sqlite"), "");
  symlinkSync(elsewhere, linked);
  await killed.end("SIGKILL");
  t.ok(existsSync(scratchOf(killed)));
  const next = await read(data);
  t.notOk(existsSync(scratchOf(killed)));
  t.equal(next.lines[0]?.msg, `removed ${scratchOf(killed)}, left by a service that was killed`);
  for (const stays of [scratchOf(living), beingMade, others, linked, join(elsewhere, "lock.sqlite")])
    t.ok(existsSync(stays), stays);
  await check(living);
  for (const service of [living, next]) t.equal(await service.end("SIGTERM"), 0);
  for (const made of [beingMade, others, linked]) rmSync(made, { recursive: true });
  t.strictSame(readdirSync(scratches), []);
});

t.test("a log that is written while it is copied is refused, though nobody is known to lock it", async (t) => {
  const copy = join(folder, "written");
  cpSync(data, copy, { recursive: true, filter: (name) => !name.endsWith(".sock") });
  const writing = new Worker(
    `const { appendFileSync } = require("node:fs");
     for (;;) appendFileSync(require("node:worker_threads").workerData, "x");`,
    { eval: true, workerData: join(copy, "events.sqlite-wal") },
  );
  try {
    while (!/is in use: events.sqlite-wal was written while it was copied/.test(await refusal(copy)));
  } finally {
    await writing.terminate();
  }
  t.pass("it is refused");
});

t.test("an archive that begins behind event 1 says so, and is served with the folder of those before it", async (t) => {
  const copy = join(folder, "parts");
  cpSync(data, copy, { recursive: true, filter: (name) => !name.endsWith(".sock") });
  const [one, two] = [join(folder, "one"), join(folder, "two")];
  for (const [before, archive] of [
    [7, one],
    [last, two],
  ] as const)
    t.match(await mapledger("archive", "--before", String(before), "--data", copy, "--archive", archive), { code: 0 });
  const run = (archive: string) =>
    mapledgerIn(
      { TMPDIR: scratches, MAPLEDGER_PORT: "0", MAPLEDGER_AUTH: "off", MAPLEDGER_ARCHIVE: archive },
      "serve",
      "--read-only",
      two,
    );
  t.match(
    (await run("")).stdout,
    /begins with event 7, .*MAPLEDGER_ARCHIVE may name the folder that ends with event 6/,
  );
  t.match((await run(folder)).stdout, /begins with event 7, .*does not end with event 6/);
  const before = [one, two].map(snapshot);
  const service = await read(two, { MAPLEDGER_ARCHIVE: one });
  for (const path of [
    "/v1/events/5",
    "/v1/events/8",
    `/v1/maps/1/elements/${key(1)}/history`,
    "/v1/maps/1/elements?at=6",
  ])
    t.strictSame(
      placeless(await send(service, "GET", path)),
      placeless(answers[READS.indexOf(path)] ?? (await send(service, "GET", path))),
      path,
    );
  t.match(await send(service, "GET", "/v1/log"), { last_seq: last - 1, refusal: null });
  t.strictSame(await send(service, "GET", "/tile/0/000.p/5"), answers[READS.indexOf("/tile/0/000.p/5")]);
  t.equal(await service.end("SIGTERM"), 0);
  t.strictSame([one, two].map(snapshot), before);
});

t.test("marks are keyed also where an archive does not tell of its log's life", async (t) => {
  const silent = join(folder, "silent");
  const service = await startService({ MAPLEDGER_DATA: silent, MAPLEDGER_MIRROR: "off" });
  for (let n = 0; n < 5; n++) await send(service, "POST", "/v1/sessions", {});
  await service.end("SIGKILL");
  const archive = join(folder, "of-silent");
  t.match(await mapledger("archive", "--before", "4", "--data", silent, "--archive", archive), { code: 0 });
  const lives = await Promise.all(
    ["a", "b"].map(async (name) => {
      const scratch = join(folder, `silent-${name}`);
      mkdirSync(scratch);
      return (await readOnlyData(archive, { archive: "", cpus: 0 }, scratch)).ledger.life;
    }),
  );
  t.match(lives, [/^[0-9a-f-]{36}$/, /^[0-9a-f-]{36}$/]);
  t.not(lives[0], lives[1]);
});
