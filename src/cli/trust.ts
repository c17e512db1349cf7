import { existsSync, readFileSync } from "node:fs";
import { type Command, InvalidArgumentError, Option } from "commander";
import { cosignaturesIn, countWitnesses, readWitnessKey, type WitnessKey } from "../tlog/cosignature.ts";
import { EXIT } from "./subcommand.ts";

/** --witness and --quorum as they were given. */
export interface WitnessOptions {
  readonly witness: readonly WitnessKey[];
  readonly quorum?: number;
}

/** Witnesses, and how many of them must have cosigned what is to count. */
export interface Quorum {
  readonly witnesses: readonly WitnessKey[];
  readonly quorum: number;
}

export function witnessOption(): Option {
  return new Option("--witness <vkey>", "whose cosignatures count, or a file with it; may be repeated")
    .argParser((given: string, before: WitnessKey[]) => [...before, readWitness(given)])
    .default([], "none");
}

export function quorumOption(): Option {
  return new Option("--quorum <count>", "how many of them are needed (default: all)").argParser(readCount);
}

/** Ends the command if more are needed than there are. */
export function quorumOf({ witness, quorum }: WitnessOptions, command: Command): Quorum {
  const count = countWitnesses(witness);
  const needed = quorum ?? count;
  if (needed > count)
    command.error(`error: --quorum is ${needed}, there are ${count} witnesses`, { exitCode: EXIT.usage });
  return { witnesses: witness, quorum: needed };
}

/** Why a note has not the cosignatures that are needed; null: it has. */
export function cosignedFault(note: string, { witnesses, quorum }: Quorum): string | null {
  const count = countWitnesses(cosignaturesIn(note, witnesses).map(({ witness }) => witness));
  return count < quorum ? `${count} of the witnesses have cosigned it, ${quorum} are needed` : null;
}

function readWitness(given: string): WitnessKey {
  const witness = readWitnessKey(existsSync(given) ? readFileSync(given, "utf8").trim() : given);
  if (witness === null)
    throw new InvalidArgumentError(
      "It is no verifier key of a witness (signature type 0x04 or 0x06), and no file with one.",
    );
  return witness;
}

function readCount(given: string): number {
  if (!/^[1-9]\d{0,2}$/.test(given)) throw new InvalidArgumentError("A number from 1 to 999 is needed.");
  return Number(given);
}
