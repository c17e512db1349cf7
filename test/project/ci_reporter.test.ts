import { spawnSync } from "node:child_process";
import { join } from "node:path";
import t from "tap";

/** scripts/ci-reporter.mjs as tap runs it: TAP in, TAP and a verdict out. */

const ROOT = join(import.meta.dirname, "../..");
const SCRIPT =
  'const { default: Reporter } = await import("./scripts/ci-reporter.mjs"); process.stdin.pipe(new Reporter()).pipe(process.stdout);';

function report(
  tap: string,
  environment: Readonly<Record<string, string>> = {},
): { code: number | null; lines: string[] } {
  const { status, stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", SCRIPT], {
    cwd: ROOT,
    input: tap,
    encoding: "utf8",
    env: { PATH: process.env.PATH, ...environment },
  });
  return { code: status, lines: stdout.trimEnd().split("\n") };
}

const PASSED = "TAP version 14\nok 1 - one\n1..1\n# { total: 1, pass: 1 }\n";
const SKIPPED = "TAP version 14\nok 1 - one\nok 2 - two # SKIP no bpffs\n1..2\n# { total: 2, pass: 1, skip: 1 }\n";

t.test("the last line has the counts", (t) => {
  const { code, lines } = report(PASSED);
  t.equal(code, 0);
  t.equal(lines.at(-1), "1 passed, 0 failed");
  t.end();
});

t.test("failures are repeated before the last line", (t) => {
  const { lines } = report("TAP version 14\nnot ok 1 - one\n1..1\n# { total: 1, fail: 1 }\n");
  t.equal(lines.at(-1), "0 passed, 1 failed");
  t.match(lines.slice(0, -1).join("\n"), /^# failed: one$/m);
  t.end();
});

t.test("a run without an assertion fails", (t) => {
  t.equal(report("TAP version 14\n1..0\n").code, 1);
  t.end();
});

t.test("SKIPS=fail makes a skip a failure, and names it", (t) => {
  const allowed = report(SKIPPED);
  t.equal(allowed.code, 0);
  t.equal(allowed.lines.at(-1), "1 passed, 0 failed, 1 skipped");
  const forbidden = report(SKIPPED, { SKIPS: "fail" });
  t.equal(forbidden.code, 1);
  t.ok(forbidden.lines.includes("# skipped, which SKIPS=fail forbids: two: no bpffs"), forbidden.lines.join("\n"));
  t.equal(report(PASSED, { SKIPS: "fail" }).code, 0);
  t.end();
});
