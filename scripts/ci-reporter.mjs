// Passes tap's output through and ends it with a plain "N passed, N failed[, N skipped]" line, taken from tap's own
// summary. A run in which nothing was asserted fails.
import { Transform } from "node:stream";

const SUMMARY = /^# \{ total: \d+[^}\n]*\}$/gm;
const TAIL_CHARACTERS = 4096;

export default class CiReporter extends Transform {
  #tail = "";

  _transform(chunk, _encoding, done) {
    this.#tail = (this.#tail + chunk).slice(-TAIL_CHARACTERS);
    done(null, chunk);
  }

  _flush(done) {
    const line = [...this.#tail.matchAll(SUMMARY)].at(-1)?.[0] ?? "";
    const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(line)?.[1] ?? 0);
    const passed = count("pass");
    const failed = count("fail");
    const skipped = count("skip") + count("todo");
    if (passed + failed === 0) process.exitCode = 1;
    done(null, `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}\n`);
  }
}
