import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { Command } from "commander";
import t, { type Test } from "tap";
import { addSubcommands, SUBCOMMANDS } from "../../src/cli/subcommands.ts";
import { cacheDirectory } from "../../src/files/compile_cache.js";
import { VERSION } from "../../src/version.ts";
import { bare, startService } from "../support/service_process.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const ENTRY = join(ROOT, "src/cli/mapledger.js");
/** Tells each file that is loaded, on descriptor 3. */
const TRACE = `data:text/javascript,${encodeURIComponent(`
import { writeSync } from "node:fs";
import { registerHooks } from "node:module";
registerHooks({ load(url, context, next) { writeSync(3, url + "\\n"); return next(url, context); } });`)}`;
/** What `--version` and `--help` need. */
const LIGHT = [
  "src/cli/bpftool/objects.ts",
  "src/cli/main.ts",
  "src/cli/mapledger.js",
  "src/cli/program.ts",
  "src/cli/subcommand.ts",
  "src/cli/subcommands.ts",
  "src/codec/visible.ts",
  "src/files/compile_cache.js",
  "src/files/modes.ts",
  "src/version.ts",
];
const asRoot = process.geteuid?.() === 0;

interface Ran {
  readonly code: number;
  readonly said: string;
  /** Of the project's own, by their paths; of packages, their names. */
  readonly own: readonly string[];
  readonly packages: readonly string[];
}

async function run(words: readonly string[], environment: Readonly<Record<string, string>> = {}): Promise<Ran> {
  const set: NodeJS.ProcessEnv = { ...bare(process.env), XDG_CACHE_HOME: "/dev/null", ...environment };
  const { NODE_COMPILE_CACHE: _, ...env } = set;
  const child = spawn(process.execPath, ["--import", TRACE, ENTRY, ...words], {
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    env,
  });
  const streams = [child.stdout, child.stderr, child.stdio[3]] as Readable[];
  const [[stdout, stderr, loaded], [code]] = await Promise.all([
    Promise.all(streams.map((stream) => text(stream))) as Promise<[string, string, string]>,
    once(child, "exit"),
  ]);
  const files = loaded.split("\n").filter((url) => url.startsWith("file:"));
  const own = files.filter((url) => !url.includes("/node_modules/")).map((url) => new URL(url).pathname);
  const packages = files.flatMap((url) => url.match(/.*\/node_modules\/((@[^/]+\/)?[^/]+)\//)?.[1] ?? []);
  return {
    code,
    said: stdout + stderr,
    own: own.map((path) => path.slice(ROOT.length)).sort(),
    packages: [...new Set(packages)],
  };
}

t.test("--version, --help and a word that is no command load commander and the version alone", async (t) => {
  for (const [words, code, says] of [
    [["--version"], 0, VERSION],
    [["--help"], 0, "Commands:"],
    [["help"], 0, "Commands:"],
    [[], 2, "Commands:"],
    [["verfy"], 2, "Did you mean verify?"],
  ] as const) {
    const ran = await run(words);
    t.equal(ran.code, code, words.join(" "));
    t.ok(ran.said.includes(says), ran.said);
    t.same(ran.own, LIGHT);
    t.same(ran.packages, ["commander"]);
  }
});

t.test("a subcommand loads its own module", async (t) => {
  for (const words of [
    ["token", "--help"],
    ["help", "token"],
    ["token", "add", "--help"],
  ]) {
    const { code, said, own, packages } = await run(words);
    t.same([code, packages], [0, ["commander"]]);
    t.match(said, /Usage: mapledger token/);
    t.ok(own.includes("src/cli/token.ts"));
    t.notOk(own.includes("src/cli/verify.ts"));
  }
});

t.test("the help says of each subcommand what the subcommand says of itself", async (t) => {
  const listed = (program: Command) => {
    const help = program.createHelp();
    return help.visibleCommands(program).map((one) => [help.subcommandTerm(one), help.subcommandDescription(one)]);
  };
  const light = new Command();
  await addSubcommands(light, []);
  const whole = new Command();
  for (const { load } of SUBCOMMANDS) (await load?.())?.(whole);
  // Those in bpftool's words come last, before "help".
  const [own, all] = [listed(whole), listed(light)];
  t.same([...all.slice(0, own.length - 1), all.at(-1)], own);
});

/** Directories that nobody else can write to, from the root on. */
function privateFolder(t: Test): string {
  const folder = join(t.testdir(), "caches");
  mkdirSync(folder, { mode: 0o700 });
  return folder;
}

/** Below a directory that others may write to, such as /tmp, there is no place for a cache. */
function othersReach(path: string): boolean {
  return (lstatSync(path).mode & 0o022) !== 0 || (path !== dirname(path) && othersReach(dirname(path)));
}

function unfit(t: Test, caches: string): boolean {
  const reach = othersReach(caches);
  if (reach) t.pass("there is a place", { skip: `others can write to a directory above ${caches}` });
  return reach;
}

t.test("the compile cache is in a directory of the user's own, made if it is not there", async (t) => {
  const caches = privateFolder(t);
  if (unfit(t, caches)) return;
  const own = join(caches, "mapledger");
  t.equal(cacheDirectory({ XDG_CACHE_HOME: caches }), own);
  t.equal(lstatSync(own).mode & 0o7777, 0o700);
  t.equal(cacheDirectory({ XDG_CACHE_HOME: caches }), own, "and found again");
  const link = join(caches, "link");
  symlinkSync(caches, link);
  t.equal(cacheDirectory({ XDG_CACHE_HOME: link }), own, "node gets the path behind links");
  for (const XDG_CACHE_HOME of ["", "relative"])
    t.equal(cacheDirectory({ XDG_CACHE_HOME, HOME: caches }), join(caches, ".cache", "mapledger"));
  t.equal(cacheDirectory({ HOME: "relative" }), null);
  t.equal(cacheDirectory({}), null);
  t.equal(cacheDirectory({ XDG_CACHE_HOME: join(caches, "no", "where") }), null);
  t.notOk(existsSync(join(caches, "no")));
});

const REFUSED: readonly [what: string, make: (own: string, caches: string) => void][] = [
  ["open to all", (own) => mkdirSync(own)],
  ["open to its group", (own) => mkdirSync(own, { mode: 0o750 })],
  [
    "a link",
    (own, caches) => {
      mkdirSync(join(caches, "other"), { mode: 0o700 });
      symlinkSync(join(caches, "other"), own);
    },
  ],
  ["a file", (own) => writeFileSync(own, "", { mode: 0o700 })],
  ["below what its group may write to", (_, caches) => chmodSync(caches, 0o770)],
  ["below what all may write to, as /tmp", (_, caches) => chmodSync(caches, 0o1777)],
  [
    "another's",
    (own) => {
      mkdirSync(own, { mode: 0o700 });
      if (asRoot) chownSync(own, 1000, 1000);
      else chmodSync(own, 0o755);
    },
  ],
  ["below what is another's", (_, caches) => (asRoot ? chownSync(caches, 1000, 1000) : chmodSync(caches, 0o777))],
];

for (const [what, make] of REFUSED)
  t.test(`a compile cache that is ${what} is not used`, async (t) => {
    const caches = privateFolder(t);
    const own = join(caches, "mapledger");
    make(own, caches);
    const before = readdirSync(caches, { recursive: true });
    t.equal(cacheDirectory({ XDG_CACHE_HOME: caches }), null);
    t.same(readdirSync(caches, { recursive: true }), before, "nor is anything made");
  });

t.test("nothing is cached below /tmp", (t) => {
  const caches = mkdtempSync(join(tmpdir(), "mapledger-caches-"));
  t.teardown(() => rmSync(caches, { recursive: true }));
  t.equal(cacheDirectory({ XDG_CACHE_HOME: caches }), null);
  t.same(readdirSync(caches), []);
  t.end();
});

t.test("the command line keeps its compiled code there, and runs without", async (t) => {
  const caches = privateFolder(t);
  if (unfit(t, caches)) return;
  const own = join(caches, "mapledger");
  t.match(await run(["--version"], { XDG_CACHE_HOME: caches }), { code: 0, said: VERSION });
  t.ok(readdirSync(own, { recursive: true }).length > 1);
  rmSync(own, { recursive: true });
  mkdirSync(own, { mode: 0o755 });
  t.match(await run(["--version"], { XDG_CACHE_HOME: caches }), { code: 0, said: VERSION });
  t.same(readdirSync(own), []);
});

t.test("the service and its threads keep theirs there, too", async (t) => {
  const caches = privateFolder(t);
  if (unfit(t, caches)) return;
  const data = join(caches, "data");
  const settings = { XDG_CACHE_HOME: caches, MAPLEDGER_DATA: data, MAPLEDGER_MIRROR: "off" };
  const service = await startService(settings, [], ["env", "-u", "NODE_COMPILE_CACHE"]);
  await service.end("SIGTERM");
  const own = join(caches, "mapledger");
  const files = readdirSync(own, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const codes = files.map(({ parentPath, name }) => readFileSync(join(parentPath, name)));
  // Node keeps the code of a TypeScript file without its types.
  for (const code of ["connectionsMax()", "passGate(gate)"])
    t.ok(
      codes.some((bytes) => bytes.includes(code)),
      code,
    );
});
