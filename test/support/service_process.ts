import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

/** The service as `npm start` starts it: a process of its own. */
export interface ServiceProcess {
  readonly url: string;
  readonly child: ChildProcess;
  /** The log lines so far. */
  readonly lines: readonly Record<string, unknown>[];
  /** Sends a signal and waits for the end; answers the exit code, null where a signal ended it. */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

const MAIN = new URL("../../src/main.js", import.meta.url).pathname;
const COMMAND_LINE = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** Seqs in tests are those of commands: no checkpoint's event comes between, unless a test asks for that. */
const NO_CHECKPOINTS = { MAPLEDGER_CHECKPOINT_EVENTS: "0", MAPLEDGER_CHECKPOINT_SECONDS: "0" };

/**
 * Starts it on a port of its own, where nobody needs a token unless the settings say so, and waits for nothing. `run`: the words of a
 * command that turns into what stands behind them.
 */
export function spawnService(
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  run: readonly string[] = [],
): ChildProcessByStdio<null, Readable, Readable> {
  return spawnNode([MAIN, ...args], environment, run);
}

function spawnNode(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
  run: readonly string[],
): ChildProcessByStdio<null, Readable, Readable> {
  const env = { ...bare(process.env), MAPLEDGER_PORT: "0", MAPLEDGER_AUTH: "off", ...NO_CHECKPOINTS, ...environment };
  const [command, ...words] = [...run, process.execPath, ...args] as [string, ...string[]];
  return spawn(command, words, { stdio: ["ignore", "pipe", "pipe"], env });
}

/** Starts it on a port of its own and waits until it is ready. Throws what it said where it did not start. */
export async function startService(
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  run: readonly string[] = [],
): Promise<ServiceProcess> {
  return started(spawnService(environment, args, run));
}

/** The same of a service that the command line runs, by its words. */
export async function startWords(
  words: readonly string[],
  environment: Readonly<Record<string, string>>,
  run: readonly string[] = [],
): Promise<ServiceProcess> {
  return started(spawnNode([COMMAND_LINE, ...words], environment, run));
}

async function started(child: ChildProcessByStdio<null, Readable, Readable>): Promise<ServiceProcess> {
  const exited = once(child, "exit") as Promise<[number | null]>;
  const closed = once(child, "close");
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
    // Its last words may come after its exit: they are all read at its close.
    closed.then(async () => reject(new Error(`the service ended with ${(await exited)[0]}: ${said}`)));
  });
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    child.kill(signal);
    // What it has said has been read when its output is closed.
    await closed;
    return (await exited)[0];
  };
  return { url, child, lines, end };
}

/** Until a service has said something, at a level of pino's. */
export async function said({ lines }: ServiceProcess, level: number, what: RegExp): Promise<void> {
  while (!lines.some((line) => line.level === level && what.test(String(line.msg)))) await sleep(10);
}

/** The environment without settings and without what a test runner puts in for its own children. */
export function bare(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => !/^(MAPLEDGER_|NODE_OPTIONS$|TAP|_TAP)/.test(name)),
  );
}
