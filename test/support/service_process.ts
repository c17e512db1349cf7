import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

/** The service as `npm start` starts it: a process of its own. */
export interface ServiceProcess {
  readonly url: string;
  readonly child: ChildProcess;
  /** The log lines so far. */
  readonly lines: readonly Record<string, unknown>[];
  /** Sends a signal and waits for the end; answers the exit code, null where a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;

/** Seqs in tests are those of commands: no checkpoint's event comes between, unless a test asks for that. */
const NO_CHECKPOINTS = { MAPLEDGER_CHECKPOINT_EVENTS: "0", MAPLEDGER_CHECKPOINT_SECONDS: "0" };

/** Starts it on a port of its own, where nobody needs a token unless the settings say so, and waits for nothing. */
export function spawnService(
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): ChildProcessByStdio<null, Readable, Readable> {
  const env = { ...bare(process.env), MAPLEDGER_PORT: "0", MAPLEDGER_AUTH: "off", ...NO_CHECKPOINTS, ...environment };
  return spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"], env });
}

/** Starts it on a port of its own and waits until it is ready. Throws what it said where it did not start. */
export async function startService(
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<ServiceProcess> {
  const child = spawnService(environment, args);
  const exited = once(child, "exit") as Promise<[number | null]>;
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const lines: Record<string, unknown>[] = [];
  const reader = createInterface({ input: child.stdout });
  const url = await new Promise<string>((resolve, reject) => {
    reader.on("line", (line) => {
      said += `${line}\n`;
      if (!line.startsWith("{")) return;
      const entry = JSON.parse(line) as Record<string, unknown>;
      lines.push(entry);
      if (typeof entry.url === "string") resolve(entry.url);
    });
    exited.then(([code]) => reject(new Error(`the service ended with ${code}: ${said}`)));
  });
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    return (await exited)[0];
  };
  return { url, child, lines, end };
}

/** The environment without settings and without what a test runner puts in for its own children. */
export function bare(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => !/^(MAPLEDGER_|NODE_OPTIONS$|TAP|_TAP)/.test(name)),
  );
}
