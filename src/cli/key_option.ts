import { existsSync, readFileSync } from "node:fs";
import { InvalidArgumentError, Option } from "commander";
import { readVkey, type Verifier } from "../tlog/note.ts";

/** --key: the verifier key of a log (`vkey` of GET /v1/log), or a file that has it. */
export function keyOption(description: string): Option {
  return new Option("--key <vkey>", description).argParser(readKey);
}

/** --key, which may be repeated. */
export function keysOption(description: string): Option {
  return new Option("--key <vkey>", description)
    .argParser((given: string, before: readonly Verifier[]) => [...before, readKey(given)])
    .default([], "none");
}

function readKey(given: string): Verifier {
  const text = existsSync(given) ? readFileSync(given, "utf8").trim() : given;
  const verifier = readVkey(text);
  if (verifier === null)
    throw new InvalidArgumentError("It is neither a verifier key of type Ed25519 nor a file that has one.");
  return verifier;
}
