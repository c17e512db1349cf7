import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { bare } from "./service_process.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `mapledger` with the words given, as a process of its own. */
export function mapledger(...words: readonly string[]): Promise<Ran> {
  return mapledgerIn({}, ...words);
}

/** The same, with settings in its environment. */
export function mapledgerIn(environment: Readonly<Record<string, string>>, ...words: readonly string[]): Promise<Ran> {
  return ranAs([], environment, ...words);
}

/** The same, by a command that turns into what stands behind its words. */
export async function ranAs(
  run: readonly string[],
  environment: Readonly<Record<string, string>>,
  ...words: readonly string[]
): Promise<Ran> {
  const [command, ...args] = [...run, process.execPath, MAIN, ...words] as [string, ...string[]];
  const child = spawn(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...bare(process.env), ...environment },
  });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
  return { code: code as number | null, stdout, stderr };
}
