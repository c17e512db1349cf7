import { Presets, SingleBar } from "cli-progress";

/** How often a line reports progress if standard error is not a terminal. */
const LINE_MS = 5000;

/** Reports progress on standard error: as a bar on a terminal, otherwise as a line every few seconds. */
export class Progress {
  readonly #what: string;
  readonly #total: number;
  readonly #bar: SingleBar | null;
  #toldMs = performance.now();

  /**
   * `what` names the activity, for example "verifying"; `unit` the things that `total` counts, for example "events".
   */
  constructor(what: string, total: number, unit: string) {
    this.#what = what;
    this.#total = total;
    this.#bar = process.stderr.isTTY === true ? newBar(what, unit) : null;
    this.#bar?.start(total, 0);
  }

  update(done: number): void {
    this.#bar?.update(done);
    if (this.#bar !== null || performance.now() - this.#toldMs < LINE_MS) return;
    this.#toldMs = performance.now();
    process.stderr.write(`${this.#what}: ${done} of ${this.#total}\n`);
  }

  stop(): void {
    this.#bar?.stop();
  }
}

function newBar(what: string, unit: string): SingleBar {
  const format = `${what} [{bar}] {value} of {total} ${unit}, {eta} s left`;
  return new SingleBar({ format, hideCursor: true, stream: process.stderr }, Presets.legacy);
}
