import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const MAIN = new URL("../src/main.js", import.meta.url).pathname;

/** A service of an example's own: its data and its directory of bpffs go with it. It can be ended and started again. */
export class OwnService {
  readonly bpffs: string;
  readonly #data: string;
  readonly #settings: Readonly<Record<string, string>>;
  #port = "0";
  #child: ChildProcess | null = null;
  #url = "";
  #removed = false;

  constructor(name: string, settings: Readonly<Record<string, string>> = {}) {
    this.#data = mkdtempSync(join(tmpdir(), `mapledger-${name}-`));
    this.bpffs = `/sys/fs/bpf/mapledger_${name}_${process.pid}`;
    this.#settings = settings;
  }

  get url(): string {
    return this.#url;
  }

  /** Until it is ready; at the same port as before. Throws what it said where it cannot start. */
  async start(): Promise<void> {
    if (this.#removed) throw new Error("starting a service: it has been removed");
    const own = {
      MAPLEDGER_DATA: this.#data,
      MAPLEDGER_PORT: this.#port,
      MAPLEDGER_AUTH: "off",
      MAPLEDGER_BPFFS: this.bpffs,
    };
    const child = spawn(process.execPath, [MAIN], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...withoutSettings(process.env), ...own, ...this.#settings },
    });
    this.#child = child;
    this.#url = await urlOf(child);
    this.#port = new URL(this.#url).port;
  }

  /** Sends a signal and waits for the end. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  }

  async remove(): Promise<void> {
    this.#removed = true;
    await this.end("SIGTERM");
    rmSync(this.#data, { recursive: true, force: true });
    rmSync(this.bpffs, { recursive: true, force: true });
  }
}

/** Settings are for another service, the one that the caller has. */
function withoutSettings(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith("MAPLEDGER_")));
}

async function urlOf(child: ChildProcess): Promise<string> {
  let said = "";
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const { url, err } = JSON.parse(line) as { url?: string; err?: { message: string } };
    if (err !== undefined) said = `: ${err.message}`;
    if (url === undefined) continue;
    child.stdout?.resume();
    return url;
  }
  throw new Error(`starting a service: it ended before it was ready${said}`);
}
