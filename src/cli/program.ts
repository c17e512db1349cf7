/** The service's own commands: `mapledger serve`, `verify`, `replay` and so on. */

import { Command } from "commander";
import { visible } from "../codec/visible.ts";
import { UMASK } from "../files/modes.ts";
import { VERSION } from "../version.ts";
import { EXIT } from "./subcommand.ts";
import { addSubcommands } from "./subcommands.ts";

export async function runProgram(words: readonly string[]): Promise<void> {
  process.umask(UMASK);
  const program = new Command("mapledger")
    .description("Runs a mapledger service, works on its log, and speaks bpftool's words to a running service.")
    .version(VERSION)
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT.usage))
    .showHelpAfterError("(see mapledger --help)");
  try {
    await addSubcommands(program, words);
    await program.parseAsync(words as string[], { from: "user" });
  } catch (error) {
    process.stderr.write(`mapledger: ${visible((error as Error).message)}\n`);
    process.exitCode = EXIT.failed;
  }
}
