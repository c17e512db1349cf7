/**
 * Passes tap's output through, and repeats all failures after it, for readers who see only the end. The last line is a plain
 * "N passed, N failed[, N skipped]", taken from tap's own summary. A run without an assertion fails. With SKIPS=fail in the environment
 * a run with a skipped test fails, too, and names the tests that were skipped: for machines that are meant to have all that tests need.
 */
import { Transform } from "node:stream";
import { Parser } from "tap-parser";

const SUMMARY = /^# \{ total: \d+[^}\n]*\}$/gm;
const TAIL_CHARACTERS = 4096;

export default class CiReporter extends Transform {
  #tail = "";
  #parser = new Parser();
  /** Assertions that failed by themselves, not by something within them. */
  #failures = [];
  #skips = [];

  constructor() {
    super();
    this.#watch(this.#parser);
  }

  _transform(chunk, _encoding, done) {
    this.#tail = (this.#tail + chunk).slice(-TAIL_CHARACTERS);
    this.#parser.write(chunk);
    done(null, chunk);
  }

  _flush(done) {
    this.#parser.end();
    const line = [...this.#tail.matchAll(SUMMARY)].at(-1)?.[0] ?? "";
    const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(line)?.[1] ?? 0);
    const passed = count("pass");
    const failed = count("fail");
    const skipped = count("skip") + count("todo");
    if (passed + failed === 0) process.exitCode = 1;
    for (const failure of this.#failures) this.push(failure);
    if (process.env.SKIPS === "fail" && skipped > 0) {
      process.exitCode = 1;
      for (const skip of this.#skips) this.push(skip);
    }
    done(null, `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
  }

  /** `above`: comments of the tests around this one, such as their seeds. */
  #watch(parser, above = []) {
    const told = [...above];
    parser.on("comment", (comment) => comment.startsWith("# Subtest") || told.push(comment));
    parser.on("child", (child) => this.#watch(child, told));
    parser.on("assert", ({ ok, skip, todo, closingTestPoint, fullname, diag }) => {
      if (skip || todo) this.#skips.push(`# skipped, which SKIPS=fail forbids: ${fullname}: ${skip || todo}\n`);
      if (ok || skip || todo || closingTestPoint) return;
      const { source: _, ...about } = diag ?? {};
      this.#failures.push(`# failed: ${fullname}\n${told.join("")}${JSON.stringify(about, null, 2)}\n`);
    });
  }
}
