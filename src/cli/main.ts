import { Command } from "commander";
import { visible } from "../codec/visible.ts";
import { UMASK } from "../files/modes.ts";
import { VERSION } from "../version.ts";
import { EXIT } from "./subcommand.ts";
import { addSubcommands } from "./subcommands.ts";

process.umask(UMASK);

const program = new Command("mapledger")
  .description("Runs a mapledger service, and works on its log.")
  .version(VERSION)
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT.usage))
  .showHelpAfterError("(see mapledger --help)");

try {
  await addSubcommands(program, process.argv.slice(2));
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`mapledger: ${visible((error as Error).message)}\n`);
  process.exitCode = EXIT.failed;
}
