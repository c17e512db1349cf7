import { existsSync, readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, Option } from "commander";
import { cosignaturesIn, countWitnesses, readWitnessKey, type WitnessKey } from "../tlog/cosignature.ts";
import { EXIT } from "./subcommand.ts";

/** The parsed options --witness and --quorum. */
export interface WitnessOptions {
  readonly witness: readonly WitnessKey[];
  readonly quorum?: number;
}

/** Witnesses, and the number of them that must have cosigned a checkpoint. */
export interface Quorum {
  readonly witnesses: readonly WitnessKey[];
  readonly quorum: number;
}

export function witnessOption(): Option {
  return new Option(
    "--witness <vkey>",
    "verifier key of a witness whose cosignatures count, or a file with it; may be repeated",
  )
    .argParser((given: string, before: WitnessKey[]) => [...before, readWitness(given)])
    .default([], "none");
}

export function quorumOption(): Option {
  return new Option("--quorum <count>", "number of witnesses that must have cosigned (default: all)").argParser(
    readCount,
  );
}

/** Ends the command with a usage error if --quorum is larger than the number of witnesses. */
export function quorumOf({ witness, quorum }: WitnessOptions, command: Command): Quorum {
  const count = countWitnesses(witness);
  const needed = quorum ?? count;
  if (needed > count)
    command.error(`error: --quorum is ${needed}, but there are ${count} witnesses`, { exitCode: EXIT.usage });
  return { witnesses: witness, quorum: needed };
}

/** The reason why a note does not have enough cosignatures; null if it does. */
export function cosignedFault(note: string, { witnesses, quorum }: Quorum): string | null {
  const count = countWitnesses(cosignaturesIn(note, witnesses).map(({ witness }) => witness));
  return count < quorum ? `${count} of the witnesses have cosigned it, ${quorum} are needed` : null;
}

function readWitness(given: string): WitnessKey {
  const witness = readWitnessKey(existsSync(given) ? readFileSync(given, "utf8").trim() : given);
  if (witness === null)
    throw new InvalidArgumentError(
      "It is neither a verifier key of a witness (signature type 0x04 or 0x06) nor a file that has one.",
    );
  return witness;
}

function readCount(given: string): number {
  if (!/^[1-9]\d{0,2}$/.test(given)) throw new InvalidArgumentError("A number from 1 to 999 is needed.");
  return Number(given);
}
