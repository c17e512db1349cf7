#!/usr/bin/env node
import { Command } from "commander";
import { visible } from "../codec/visible.ts";
import { UMASK } from "../private_files.ts";
import { VERSION } from "../version.ts";
import { addArchive } from "./archive.ts";
import { addBackup, addRestoreBackup } from "./backup.ts";
import { addMap, addMirror } from "./mirror.ts";
import { addImport, addReplay } from "./replay.ts";
import { EXIT, type Subcommand } from "./subcommand.ts";
import { addTakeOver } from "./take_over.ts";
import { addToken } from "./token.ts";
import { addTree } from "./tree.ts";
import { addVerify } from "./verify.ts";
import { addVerifyProof } from "./verify_proof.ts";

/** A subcommand each: a file beside this one. */
const SUBCOMMANDS: readonly Subcommand[] = [
  addArchive,
  addBackup,
  addRestoreBackup,
  addReplay,
  addImport,
  addVerify,
  addVerifyProof,
  addTree,
  addTakeOver,
  addMirror,
  addMap,
  addToken,
];

process.umask(UMASK);

const program = new Command("mapledger")
  .description("Works on a mapledger's log: the service itself is started by npm start.")
  .version(VERSION)
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT.usage))
  .showHelpAfterError("(mapledger --help tells more)");
for (const add of SUBCOMMANDS) add(program);

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`mapledger: ${visible((error as Error).message)}\n`);
  process.exitCode = EXIT.failed;
}
