import type { Command } from "commander";
import { type RotatedKey, rotateKey } from "../data/key_rotation.ts";
import { becomeOwner } from "../files/owner.ts";
import { InUse } from "../sqlite/lock.ts";
import { dataOption } from "./data_option.ts";

interface Options {
  readonly data: string;
  readonly origin: string;
}

const MORE = `
The service must be stopped. An event (KEY_ROTATE) names both keys, and both sign a
checkpoint that includes this event: with it, anyone who knows the former key can verify
that the new key is the log's. The former key is removed; its signatures stay verifiable.
Give the new verifier key to those who verify the log, and to its witnesses.`;

export function addKey(program: Command): void {
  program
    .command("key")
    .description("Commands for the key that signs the log's checkpoints.")
    .command("rotate")
    .description("Makes a new key, which signs all further checkpoints.")
    .addOption(dataOption())
    .option("--origin <name>", "MAPLEDGER_ORIGIN of the service", process.env.MAPLEDGER_ORIGIN ?? "")
    .addHelpText("after", MORE)
    .action((options: Options) => {
      const { seq, signer, vkey } = rotate(options);
      process.stdout.write(`event ${seq}: a new key signs the log from now on\nformer ${signer}\nkey    ${vkey}\n`);
    });
}

function rotate(options: Options): RotatedKey {
  becomeOwner(options.data);
  try {
    return rotateKey(options);
  } catch (error) {
    throw error instanceof InUse ? new Error(`${error.message}: stop it first`) : error;
  }
}
