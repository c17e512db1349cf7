/** The command line in bpftool's words, in this process: its terminal, its settings and its exit code. */

import { VERSION } from "../version.ts";
import { run } from "./bpftool/run.ts";
import { findService, isServiceUrl } from "./service_place.ts";
import { OWN_COMMANDS } from "./subcommands.ts";

/** The exit code of a program that a closed pipe has ended, as shells show it. */
const PIPE_CLOSED = 141;

export async function runWords(words: readonly string[]): Promise<void> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(PIPE_CLOSED);
    throw error;
  });
  const isTerminal = process.stdout.isTTY === true;
  process.exitCode = await run(words, {
    terminal: {
      out: process.stdout,
      err: process.stderr,
      isTerminal,
      isColoured: isTerminal && (process.env.NO_COLOR ?? "") === "",
    },
    about: { version: VERSION, others: OWN_COMMANDS },
    findService({ url, token = process.env.MAPLEDGER_TOKEN }) {
      if (url !== undefined && !isServiceUrl(url))
        throw new Error("--url: http://..., https://... or unix:PATH is needed");
      return findService({ ...(url !== undefined && { url }), ...(token !== undefined && { token }) });
    },
    async progress(what, total, unit) {
      const { Progress } = await import("./progress.ts");
      return new Progress(what, total, unit);
    },
  });
}
