import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { visible } from "../codec/visible.ts";
import { eventJson } from "../log/event_json.ts";
import { readProof } from "../log/tlog_proof.ts";
import type { Verifier } from "../tlog/note.ts";
import { keyOption } from "./key_option.ts";
import { EXIT } from "./subcommand.ts";
import { cosignedFault, type Quorum, quorumOf, quorumOption, type WitnessOptions, witnessOption } from "./trust.ts";

interface Options extends WitnessOptions {
  readonly key?: Verifier;
}

const MORE = `
A proof counts if --key has signed its checkpoint, or if --quorum witnesses have cosigned
it; if both are given, both are needed.`;

export function addVerifyProof(program: Command): void {
  program
    .command("verify-proof")
    .description("Checks a proof from GET /v1/events/{seq}/proof offline, and prints the event that it proves.")
    .argument("<file>", "the proof, or - for stdin")
    .addOption(keyOption("verifier key that must have signed: `vkey` of GET /v1/log, or a file with it"))
    .addOption(witnessOption())
    .addOption(quorumOption())
    .addHelpText("after", MORE)
    .action((file: string, options: Options, command: Command) => {
      const { key = null, witness } = options;
      if (key === null && witness.length === 0)
        command.error("error: --key or --witness is needed, to verify the proof's signatures", {
          exitCode: EXIT.usage,
        });
      run(file, key, quorumOf(options, command));
    });
}

function run(file: string, key: Verifier | null, quorum: Quorum): void {
  const proven = readProof(readFileSync(file === "-" ? 0 : file, "utf8"), key, (note) => cosignedFault(note, quorum));
  if ("wrong" in proven) {
    process.stderr.write(`${visible(`${file} proves nothing: ${proven.wrong}`)}\n`);
    process.exitCode = EXIT.found;
    return;
  }
  const { event, checkpoint } = proven;
  for (const line of JSON.stringify(eventJson(event), null, 2).split("\n")) process.stdout.write(`${visible(line)}\n`);
  const root = checkpoint.root.toString("base64");
  const told = `event ${event.seq} is in the log ${checkpoint.origin} of ${checkpoint.size} events, root ${root}`;
  process.stdout.write(`${visible(told)}\n`);
}
