import { execFile } from "node:child_process";
import { run } from "../../src/cli/bpftool/run.ts";
import type { Service } from "../../src/client/ask.ts";
import type { Ran } from "./cli.ts";

/** Runs a command line in bpftool's words in this process. */
export async function inWords(
  service: Service,
  words: readonly string[],
  { isTerminal = false }: { readonly isTerminal?: boolean } = {},
): Promise<Ran> {
  const stdout: unknown[] = [];
  const stderr: unknown[] = [];
  const code = await run(words, {
    terminal: {
      out: { write: (text: unknown) => stdout.push(text) > 0, once: () => process.stdout },
      err: { write: (text: unknown) => stderr.push(text) > 0 },
      isTerminal,
      isColoured: isTerminal,
    },
    about: { version: "1.2.3", others: [{ usage: "serve [options]", description: "Runs the service." }] },
    findService: async () => service,
    progress: async () => ({ update() {}, stop() {} }),
  });
  return { code, stdout: stdout.join(""), stderr: stderr.join("") };
}

/** Runs the real bpftool. */
export function bpftool(words: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile("bpftool", words, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code as unknown as number), stdout, stderr });
    });
  });
}

/** Why bpftool cannot be asked here; null if it can. */
export async function unfitForBpftool(): Promise<string | null> {
  const { code, stdout } = await bpftool(["version"]);
  if (code !== 0) return "there is no bpftool";
  return /^bpftool v7\.1\./.test(stdout) || stdout.includes("bpftool v7.1.")
    ? null
    : `bpftool is another one: ${stdout}`;
}
