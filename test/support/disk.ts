import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";

/** The library of test/faults/disk.c for this machine. */
const DISK_LIBRARY = new URL(`../faults/disk-${process.arch}.so`, import.meta.url).pathname;

/** Where a call is to fail: as test/faults/disk.c has rules. `skip`: so many pass first; `count`: so many are hit, -1 for all. */
export interface Rule {
  readonly op: "write" | "sync" | "open" | "truncate";
  /** How the file's path ends. */
  readonly file: string;
  readonly action: keyof typeof ERRNOS | "drop" | "kill";
  readonly skip?: number;
  readonly count?: number;
}

const ERRNOS = { EIO: 5, EMFILE: 24, ENOSPC: 28 } as const;

/** A data directory on a disk that fails when it is told to; for services that have its environment. */
export class Disk {
  readonly data: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly #rules: string;
  readonly #hits: string;
  readonly #kept: string;

  /** `keeps`: whether it is known what of the data a loss of power would leave. */
  constructor(t: Pick<Test, "teardown">, { keeps = false }: { readonly keeps?: boolean } = {}) {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), "mapledger-disk-")));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    this.data = join(folder, "data");
    this.#rules = join(folder, "rules");
    this.#hits = join(folder, "hits");
    this.#kept = join(folder, "kept");
    mkdirSync(this.data, { mode: 0o700 });
    writeFileSync(join(folder, "boot"), "boot 1\n");
    this.environment = {
      LD_PRELOAD: DISK_LIBRARY,
      DISK_ROOT: this.data,
      DISK_RULES: this.#rules,
      DISK_HITS: this.#hits,
      MAPLEDGER_DATA: this.data,
      MAPLEDGER_MIRROR: "off",
      ...(keeps && { DISK_KEPT: this.#kept, DISK_BOOT: join(folder, "boot") }),
    };
  }

  /** From now on these, in place of those before. */
  fail(...rules: readonly Rule[]): void {
    const lines = rules.map(({ op, file, action, skip = 0, count = 1 }) => {
      const number = action in ERRNOS ? ERRNOS[action as keyof typeof ERRNOS] : action;
      return `${op} ${file} ${number} ${skip} ${count}\n`;
    });
    writeFileSync(`${this.#rules}.new`, lines.join(""));
    renameSync(`${this.#rules}.new`, this.#rules);
  }

  /** Calls that were hit, of all rules so far. */
  get hits(): readonly string[] {
    return existsSync(this.#hits) ? readFileSync(this.#hits, "utf8").trim().split("\n") : [];
  }

  /** The machine goes down: what was synced is what there is, and it boots again. The process must have ended. */
  losePower(): void {
    rmSync(this.data, { recursive: true });
    cpSync(this.#kept, this.data, { recursive: true });
    const boot = this.environment.DISK_BOOT as string;
    writeFileSync(boot, `boot after ${readFileSync(boot, "utf8")}`);
  }
}
