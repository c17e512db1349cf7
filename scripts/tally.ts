import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import { Parser } from "tap-parser";

/**
 * Runs tests many times, each time with another seed, some of them beside busy cores, and keeps a tally: which of them fail by chance or
 * by load. `npm run tally -- [--runs 20] [--loaded 4] [--jobs 1] [--seed N] [test/x.test.ts ...]`; without files all that `--list` lists: tests
 * that use chance, time, threads or processes. With `--jobs 4` each file runs beside three others, which is a load, too. `--summary` tells of
 * all runs that were ever kept.
 */

const ROOT = join(import.meta.dirname, "..");
const FOLDER = join(ROOT, "tally");
const TALLY = join(FOLDER, "runs.jsonl");
const BUSY_CORES = 2;
const SEED_MAX = 2 ** 31;
const TIMEOUT_SECONDS = 900;

/** What shows in a test, or in what it imports below test/, that more than its code decides what comes of it. */
const USES = {
  chance: /\bfast-check\b|\brandom\(|\bSEED\b|\brandomBytes\b|\brandomInt\b/,
  time: /\bperformance\.now\(|\bDate\.now\(|\bsetTimeout\b|\bsetInterval\b/,
  threads: /\bnode:worker_threads\b/,
  processes: /\bnode:child_process\b/,
} as const;

interface Run {
  /** When it began, as ISO 8601. */
  readonly at: string;
  readonly commit: string;
  readonly file: string;
  readonly seed: number;
  readonly loaded: boolean;
  /** Files that ran at once. */
  readonly jobs: number;
  readonly ms: number;
  readonly ok: boolean;
  /** Full names of assertions that failed; of a file that ended without one, how it ended. */
  readonly failed: readonly string[];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: "string", default: "20" },
    loaded: { type: "string", default: "4" },
    jobs: { type: "string", default: "1" },
    seed: { type: "string" },
    list: { type: "boolean", default: false },
    summary: { type: "boolean", default: false },
  },
});

if (values.list) for (const [file, uses] of chosen()) console.log(`${file}: ${uses.join(", ")}`);
else if (values.summary) summarize(kept());
else await tally(positionals.length > 0 ? positionals : [...chosen().keys()]);

/** A run of each file, then the next run of each: what comes first of a long tally has been run of all. */
async function tally(files: readonly string[]): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  const commit = execFileSync("git", ["describe", "--always", "--dirty"], { cwd: ROOT, encoding: "utf8" }).trim();
  const [runs, jobs] = [Number(values.runs), Number(values.jobs)];
  const done: Run[] = [];
  const due = Array.from({ length: runs }, (_, at) => files.map((file) => ({ file, run: at + 1 }))).flat();
  const work = async (): Promise<void> => {
    for (let next = due.shift(); next !== undefined; next = due.shift()) {
      const { file, run } = next;
      const seed = values.seed === undefined ? randomInt(SEED_MAX) : Number(values.seed) + run - 1;
      const loaded = run <= Number(values.loaded);
      const one = { ...(await runOnce(file, seed, loaded)), commit, jobs };
      done.push(one);
      appendFileSync(TALLY, `${JSON.stringify(one)}\n`);
      const told = one.ok ? "ok" : `FAILED: ${one.failed.join("; ")}`;
      console.log(`${run}/${runs} ${file} SEED=${seed}${loaded ? " loaded" : ""} ${seconds(one.ms)} s ${told}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, work));
  summarize(done);
  if (done.some(({ ok }) => !ok)) process.exitCode = 1;
}

async function runOnce(file: string, seed: number, loaded: boolean): Promise<Omit<Run, "commit" | "jobs">> {
  const busy = loaded ? Array.from({ length: BUSY_CORES }, keepBusy) : [];
  const at = new Date().toISOString();
  const started = performance.now();
  // Without tap's runner: two of them in one folder remove each other's files.
  const child = spawn(process.execPath, [file], {
    cwd: ROOT,
    env: {
      ...process.env,
      NODE_COMPILE_CACHE: join(ROOT, "node_modules/.cache/node"),
      TAP_TIMEOUT: String(TIMEOUT_SECONDS),
      SEED: String(seed),
    },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const failed: string[] = [];
  const parser = new Parser();
  watch(parser, failed);
  child.stdout.pipe(parser);
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  const ms = performance.now() - started;
  for (const one of busy) one.kill("SIGKILL");
  const ok = code === 0;
  if (!ok && failed.length === 0) failed.push(`it ended with ${signal ?? code}`);
  return { at, file, seed, loaded, ms, ok, failed };
}

/** Ends with this process: its standard input is closed then. */
function keepBusy(): ChildProcess {
  const code =
    "process.stdin.on('end', () => process.exit()).resume(); (function turn() { const until = Date.now() + 50; while (Date.now() < until); setImmediate(turn); })();";
  return spawn(process.execPath, ["-e", code], { stdio: ["pipe", "ignore", "ignore"] });
}

function watch(parser: Parser, failed: string[]): void {
  parser.on("child", (child) => watch(child, failed));
  parser.on("assert", ({ ok, skip, todo, closingTestPoint, fullname }) => {
    if (!ok && !skip && !todo && !closingTestPoint) failed.push(fullname);
  });
}

function kept(): Run[] {
  if (!existsSync(TALLY)) return [];
  const lines = readFileSync(TALLY, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Run);
}

function summarize(runs: readonly Run[]): void {
  const rows = [...Map.groupBy(runs, ({ file }) => file)].map(([file, of]) => {
    const times = of.map(({ ms }) => ms).sort((a, b) => a - b);
    const bad = of.filter(({ ok }) => !ok);
    return {
      file,
      runs: of.length,
      loaded: of.filter(({ loaded }) => loaded).length,
      failed: bad.length,
      "median s": seconds(times[(times.length - 1) >> 1] as number),
      "longest s": seconds(times.at(-1) as number),
      what: [...new Set(bad.flatMap(({ failed }) => failed))].join("; "),
    };
  });
  console.table(rows.sort((a, b) => b.failed - a.failed || (a.file < b.file ? -1 : 1)));
  console.log(`${runs.length} runs, ${runs.filter(({ ok }) => !ok).length} failed`);
}

function seconds(ms: number): number {
  return Math.round(ms / 100) / 10;
}

/** Tests, with what they use that may come out otherwise another time. */
function chosen(): Map<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  for (const name of readdirSync(join(ROOT, "test"), { recursive: true, encoding: "utf8" }).sort()) {
    if (!name.endsWith(".test.ts")) continue;
    const texts = withImports(join(ROOT, "test", name), new Map());
    const uses = Object.entries(USES).filter(([, shown]) => texts.some((text) => shown.test(text)));
    if (uses.length > 0)
      found.set(
        join("test", name),
        uses.map(([use]) => use),
      );
  }
  return found;
}

/** The text of a file, and of all below test/ and conformance/ that it imports. */
function withImports(file: string, read: Map<string, string>): readonly string[] {
  if (read.has(file)) return [];
  const text = readFileSync(file, "utf8");
  read.set(file, text);
  for (const [, from] of text.matchAll(/from "(\.[^"]+\.ts)"/g)) {
    const imported = join(dirname(file), from as string);
    if (/^(test|conformance)\//.test(relative(ROOT, imported))) withImports(imported, read);
  }
  return [...read.values()];
}
