/** The commands that bpftool does not have, against a service without a mirror; options, help and completion. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { COMMANDS } from "../../support/all_commands.ts";
import { mapledgerIn } from "../../support/cli.ts";
import { type ServiceProcess, startService } from "../../support/service_process.ts";
import { inWords } from "../../support/words.ts";

const data = mkdtempSync(join(tmpdir(), "mapledger-words-"));
let service: ServiceProcess;
t.before(async () => {
  service = await startService({ MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" });
});
t.teardown(async () => {
  await service.end("SIGKILL");
  rmSync(data, { recursive: true });
});

/** Words with single quotes around those that have blanks. */
function split(words: string): string[] {
  return (words.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replaceAll("'", ""));
}

const ask = (words: string, isTerminal = false) =>
  inWords({ url: service.url, token: undefined }, split(words), { isTerminal });

async function must(words: string): Promise<string> {
  const { code, stdout, stderr } = await ask(words);
  if (code !== 0) throw new Error(`${words}: ${code}: ${stdout}${stderr}`);
  return stdout;
}

async function lastSeq(): Promise<number> {
  const [event] = JSON.parse(await must("-j event list limit 1")) as [{ seq: number }];
  return event.seq;
}

/** A map with u32 keys and values, pinned under its name. */
async function made(t: Test, name: string, ...elements: readonly [key: number, value: number][]): Promise<void> {
  await must(`map create type hash key 4 value 4 entries 16 name ${name}`);
  for (const [key, value] of elements) await must(`map update name ${name} key ${key} 0 0 0 value ${value} 0 0 0`);
  t.match(await must(`-f map show name ${name}`), `\n\tpinned /sys/fs/bpf/${name}\n`);
}

t.test("map create pins a map under its name, or lets a session hold it", async (t) => {
  await made(t, "lives");
  const session = Number(await must("session create name holder ttl 60"));
  t.equal((await ask(`map create type hash key 4 value 4 entries 1 name held session ${session}`)).code, 0);
  t.same(JSON.parse(await must("-jf map show name held")).pinned, []);
  await must(`session end id ${session}`);
  t.match(await ask("map show name held"), { code: 255, stderr: "Error: no map has the name held\n" });
  const cut = await ask("map create type hash key 4 value 4 entries 1 name abcdefghijklmnopqrst");
  t.match(cut, { code: 0, stderr: /cut to 15 characters: abcdefghijklmno\n/ });
  t.match(await ask("map create type hash key 4 value 4 entries 1 name lives"), {
    code: 239,
    stderr: /^Error: can't pin the object \(\/sys\/fs\/bpf\/lives\): File exists/,
  });
});

t.test(
  "a name that several maps have is shown and dumped for all of them, and refused where one is meant",
  async (t) => {
    for (const file of ["twin_1", "twin_2"])
      await must(`map create /sys/fs/bpf/${file} type array key 4 value 4 entries 1 name twin`);
    t.equal((await must("map show name twin")).match(/name twin/g)?.length, 2);
    t.equal((JSON.parse(await must("-j map dump name twin")) as unknown[]).length, 2);
    t.match(await must("map dump name twin"), /Found 1 element\n\n\d+: array {2}name twin/);
    const refused = await ask("map lookup name twin key 0 0 0 0");
    t.match(refused, { code: 255, stderr: /^Error: several maps match this handle/ });
  },
);

t.test("--at reads an earlier moment, and is refused where nothing is read", async (t) => {
  await made(t, "past", [1, 1]);
  const then = await lastSeq();
  await must("map update name past key 1 0 0 0 value 2 0 0 0");
  await must("map delete name past key 1 0 0 0");
  const before = await lastSeq();
  t.equal(await must(`--at ${then} map lookup name past key 1 0 0 0`), "key: 01 00 00 00  value: 01 00 00 00\n");
  t.match(await must(`map dump name past --at=${then}`), "Found 1 element\n");
  t.match(await must(`--at ${then} map getnext name past`), "next key:\n01 00 00 00\n");
  t.match(await must(`--at ${then} map show name past`), "name past");
  t.match(await must(`--at ${then} session list`), "");
  t.equal(await lastSeq(), before, "and leaves no event");
  t.match(await ask(`--at ${then} map delete name past key 1 0 0 0`), { code: 255, stderr: /--at is for reads/ });
  t.match(await ask("--at yesterday map dump name past"), { code: 255, stderr: /yesterday/ });
});

t.test("map history, diff and restore show versions, differences and what would be done", async (t) => {
  await made(t, "undone", [1, 1], [2, 2]);
  const then = await lastSeq();
  await must("map update name undone key 1 0 0 0 value 9 0 0 0");
  await must("map delete name undone key 2 0 0 0");
  await must("map update name undone key 3 0 0 0 value 3 0 0 0");
  const versions = JSON.parse(await must("-j map history name undone key 2 0 0 0"));
  t.match(versions, [
    { cmd: "BPF_MAP_UPDATE_ELEM", value: ["0x02", "0x00", "0x00", "0x00"] },
    { cmd: "BPF_MAP_DELETE_ELEM", value: null },
  ]);
  t.match(await must("map history name undone key 2 0 0 0"), /\tBPF_MAP_DELETE_ELEM\t\(deleted\)\n$/);
  const diff = await must(`map diff name undone from ${then}`);
  t.match(diff, ": 1 added, 1 changed, 1 removed\n");
  t.match(diff, "+ key: 03 00 00 00  value: 03 00 00 00\n");
  t.match(diff, "~ key: 01 00 00 00  value: 09 00 00 00  was: 01 00 00 00\n");
  t.match(diff, "- key: 02 00 00 00  value: 02 00 00 00\n");
  t.match(JSON.parse(await must(`-j map diff name undone from ${then} to ${then}`)), { added: 0, changes: [] });
  const before = await lastSeq();
  t.match(
    await must(`map restore name undone to ${then} --dry-run`),
    `would be as of event ${then}: 1 added, 1 changed, 1 removed`,
  );
  t.equal(await lastSeq(), before);
  t.match(JSON.parse(await must(`-j map restore name undone to ${then} reason 'by mistake'`)), {
    dry_run: false,
    reason: "by mistake",
    first_seq: before + 1,
  });
  t.match(await must("-j map dump name undone"), '"key":["0x02"');
  t.match(await ask("map diff name undone to 5"), { code: 255, stderr: "Error: did not find from\n" });
  t.match(await ask("map diff name undone from 999999999"), { code: 255, stderr: /^Error: can't compare/ });
  t.match(await ask("map diff name undone from 1 strange 2"), { stderr: "Error: expected from, to, got: 'strange'\n" });
});

t.test("the history of a freed map is found by its id", async (t) => {
  const session = Number(await must("session create"));
  await must(`map create type hash key 4 value 4 entries 1 name freed session ${session}`);
  const { id } = JSON.parse(await must("-j map show name freed"));
  await must(`map update id ${id} key 1 0 0 0 value 7 0 0 0`);
  await must(`session end id ${session}`);
  t.match(
    JSON.parse(await must(`-j map history id ${id} key 1 0 0 0`)),
    [{ value: ["0x07"] }, { value: null }].slice(0, 1),
  );
});

t.test("map peek with a value asks a bloom filter", async (t) => {
  await must("map create type bloom_filter key 0 value 4 entries 8 name asked");
  await must("map push name asked value 1 0 0 0");
  t.equal(await must("map peek name asked value 1 0 0 0"), "value: 01 00 00 00\n");
  t.equal((await ask("map peek name asked value 2 0 0 0")).code, 254);
});

t.test("map watch and event watch print changes as they come, until the map is freed", async (t) => {
  const session = Number(await must("session create"));
  await must(`map create type hash key 4 value 4 entries 4 name watched session ${session}`);
  await must("map update name watched key 1 0 0 0 value 1 0 0 0");
  const from = await lastSeq();
  const watched = ask("map watch name watched");
  const told = ask(`-j map watch name watched after ${from}`);
  await must("map update name watched key 2 0 0 0 value 2 0 0 0");
  await must("map delete name watched key 1 0 0 0");
  await must(`session end id ${session}`);
  const { code, stdout } = await watched;
  t.equal(code, 0);
  t.match(stdout, /^map \d+, as of event \d+\n/);
  t.match(stdout, /freed {2}event \d+/);
  const lines = (await told).stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  t.match(
    lines.map(({ event }) => event),
    ["put", "delete", "freed"],
  );
  t.match(lines[0], { key: ["0x02", "0x00", "0x00", "0x00"], value: ["0x02"] });
});

t.test("event list selects events", async (t) => {
  await made(t, "listed", [1, 1]);
  await ask("map lookup name listed key 9 0 0 0");
  const events = async (words: string) =>
    JSON.parse(await must(`-j event list ${words}`)) as { cmd: string; seq: number }[];
  t.match(await events("map name listed errno ENOENT"), [{ cmd: "BPF_MAP_LOOKUP_ELEM", errno: "ENOENT" }]);
  t.same(
    (await events("map name listed changes")).map(({ cmd }) => cmd),
    ["BPF_MAP_CREATE", "BPF_OBJ_PIN", "BPF_MAP_UPDATE_ELEM"],
  );
  t.match(await events("map name listed key 01 cmd BPF_MAP_UPDATE_ELEM limit 1"), [{ key: "01000000" }]);
  const all = await events("after 0");
  t.same(
    all.map(({ seq }) => seq),
    all.map((_, at) => at + 1),
    "all of them, ascending",
  );
  t.equal((await events("")).length, 20, "the last 20");
  t.same(
    (await events("limit 3")).map(({ seq }) => seq),
    all.slice(-3).map(({ seq }) => seq),
  );
  t.same(
    (await events("before 5 limit 2")).map(({ seq }) => seq),
    [3, 4],
  );
  t.same(
    (await events("before 5 after 3")).map(({ seq }) => seq),
    [4],
  );
  t.same(
    (await events("after 3 limit 2")).map(({ seq }) => seq),
    [4, 5],
  );
  const text = (await must("event list limit 1")).split("\t");
  t.equal(text.length, 8, "cells with tabs between");
  t.match(await ask("event list errno ESTRANGE"), { code: 255, stderr: /errno: a name or a number required/ });
  t.match(await ask("event list strange"), { code: 255, stderr: /^Error: expected map, session/ });
  t.match(await ask("event list map name listed map name listed"), { stderr: "Error: map specified multiple times\n" });
});

t.test("on a terminal there are headers, columns and colours, elsewhere none", async (t) => {
  await must("session create name shown");
  const { stdout } = await ask("session list", true);
  t.ok(stdout.startsWith("\u001b[1mID"), stdout);
  t.match(stdout, / {2}NAME +CALLER/);
  t.match(stdout, /^\d+ +shown +\S+ +ttl +\d+ s /m);
  t.notMatch(await must("session list"), "NAME");
  t.notOk((await must("session list")).includes("\u001b"));
  t.match(await must("session list"), /^\d+\tshown\t/m);
});

t.test("control characters of a log are shown, not sent to the terminal", async (t) => {
  await inWords({ url: service.url, token: undefined }, ["session", "create", "name", "\u001b[2J\tx"]);
  t.match(await must("session list"), "\\u001b[2J\\u0009x");
});

t.test("a batch runs commands as one line each, and names the line that is wrong", async (t) => {
  const folder = t.testdir();
  const file = join(folder, "commands");
  const run = (text: string, form = "") => {
    writeFileSync(file, text);
    return ask(`${form}batch file ${file}`);
  };
  t.match(await run("version\nmap show name 'a\n"), {
    code: 255,
    stderr: "Error: unterminated quoted string in line 2\n",
  });
  t.match(await run("version \\\n"), { code: 255, stderr: /missing continuation line/ });
  t.match(await run("prog show\n"), { code: 255, stderr: "Error: unknown command 'prog'\n" });
  t.match(await run(`${"x".repeat(2 ** 20)}y`), { code: 255, stderr: "Error: line 1 is too long\n" });
  t.match(await run(`batch file ${file}`), { code: 255, stderr: "Error: batches are nested more than 8 deep\n" });
  const { code, stdout } = await run("version\nevent watch\n", "-j ");
  t.equal(code, 255);
  t.match(JSON.parse(stdout), [{ output: { version: "1.2.3" } }, { output: { error: /a watch has no end/ } }]);
});

t.test("numbers that bpftool cuts to a byte are refused", async (t) => {
  await made(t, "cut");
  for (const byte of ["256", "-1", "0x100", "08", "1.0", "''"])
    t.equal((await ask(`map lookup name cut key -- ${byte} 0 0 0`)).code, 255, byte);
  t.match(await ask("map lookup name cut key 256 0 0 0"), { code: 255, stderr: "Error: error parsing byte: 256\n" });
});

t.test("options are read as getopt_long reads them, wherever they stand", async (t) => {
  for (const words of ["-j version", "version -j", "--json version", "--js version", "-jn version", "version -- -j"])
    t.equal((await ask(words)).code, 0, words);
  t.equal(await must("map -V"), "mapledger v1.2.3\n");
  t.same(JSON.parse(await must("version -jp")), { version: "1.2.3" });
  for (const [words, says] of [
    ["--p=1 version", "option '--pretty' takes no value"],
    ["--t version", "option '--token' needs a value"],
    ["--at", "option '--at' needs a value: SEQ|TIME"],
    ["--d version", "unrecognized option '--d'"],
    ["map list --dry-run", "--dry-run is for map restore"],
  ] as const)
    t.match(await ask(words === "--t version" ? "version --t" : words), { code: 255, stderr: `Error: ${says}` });
  t.match((await ask("-d map show id 1")).stderr, /^GET \/v1\/maps\/1\nGET \/v1\/maps\/1 was answered \d+\n/);
});

t.test("a service that is not there, or is none, is named with the reason", async (t) => {
  const nowhere = await inWords({ url: "unix:/no/such/socket", token: undefined }, ["map", "show"]);
  t.match(nowhere, { code: 255, stderr: /^Error: unix:\/no\/such\/socket: connect ENOENT/ });
  const json = await inWords({ url: "http://127.0.0.1:1", token: undefined }, ["-j", "map", "show"]);
  t.match(JSON.parse(json.stdout), [{ error: /127\.0\.0\.1:1/ }]);
});

t.test("each command has help with its usage, on standard output", async (t) => {
  for (const [words, command] of COMMANDS) {
    const { code, stdout, stderr } = await ask(`${words} --help`);
    t.match({ code, stderr }, { code: 0, stderr: "" }, words);
    t.match(stdout, `Usage: mapledger ${words}`);
    for (const [example] of command.examples) t.match(stdout, example);
  }
  t.match((await ask("map lookup --help")).stdout, "MAP := { id MAP_ID | name MAP_NAME | pinned FILE }");
  t.match((await ask("map help")).stdout, "mapledger map dump MAP");
  t.match(await ask("map strange"), { code: 255, stderr: /mapledger map dump MAP/ });
});

t.test("the completion knows words, maps and pins, and leaves no event", async (t) => {
  await made(t, "completed");
  const before = await lastSeq();
  const complete = async (...words: string[]) =>
    (await inWords({ url: service.url, token: undefined }, ["completion", "words", "--", ...words])).stdout
      .split("\n")
      .slice(0, -1);
  t.same(await complete("ma"), ["man", "map"]);
  t.same(await complete("se"), ["serve", "session"]);
  t.same(await complete("map", "d"), ["delete", "dequeue", "diff", "dump"]);
  t.same(await complete("map", "lookup", ""), ["id", "name", "pinned"]);
  t.same(await complete("map", "lookup", "name", "compl"), ["completed"]);
  t.same(await complete("-j", "map", "dump", "pinned", "/sys/fs/bpf/compl"), ["/sys/fs/bpf/completed"]);
  t.ok((await complete("map", "dump", "id", "")).length > 0);
  t.same(await complete("map", "lookup", "name", "completed", ""), ["key"]);
  t.same(await complete("map", "update", "name", "completed", "key", "1", ""), ["any", "exist", "noexist", "value"]);
  t.same(await complete("map", "create", "type", "lru_h"), ["lru_hash"]);
  t.same(await complete("event", "list", "errno", "ENOE"), ["ENOENT"]);
  t.same(await complete("event", "list", "map", "name", "compl"), ["completed"]);
  t.same(await complete("batch", ""), ["file"]);
  t.same(await complete("completion", ""), ["bash", "fish", "zsh"]);
  t.same(await complete("map", "--dr"), ["--dry-run"]);
  t.same(await complete("--url", ""), []);
  t.same(await complete("strange", ""), []);
  t.equal(await lastSeq(), before);
  for (const shell of ["bash", "zsh", "fish"])
    t.match(await must(`completion ${shell}`), "mapledger completion words --");
  t.match(await ask("completion csh"), { code: 255, stderr: /unknown shell 'csh'/ });
});

t.test("the command line finds these words among those of the service", async (t) => {
  const socket = join(data, "mapledger.sock");
  const environment = { MAPLEDGER_SOCKET: socket };
  t.match(await mapledgerIn(environment, "map", "show", "name", "nothing"), {
    code: 255,
    stderr: "Error: no map has the name nothing\n",
  });
  t.match(await mapledgerIn(environment, "-j", "m", "s"), { code: 0, stdout: /^\[/, stderr: "" });
  t.match(await mapledgerIn({}, "help", "map"), { code: 0, stdout: /mapledger map dump MAP/ });
  t.match(await mapledgerIn({}, "map", "list", "--url", "ftp://x"), { code: 255, stderr: /^Error: --url: http/ });
  t.match(await mapledgerIn({}, "version", "-j"), { code: 0, stdout: /^\{"version":"\d/ });
  t.match(await mapledgerIn({}, "tree", "--help"), { code: 0, stdout: /Usage: mapledger tree/ });
});
