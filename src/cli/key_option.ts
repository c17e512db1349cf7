import { existsSync, readFileSync } from "node:fs";
import { InvalidArgumentError, Option } from "commander";
import { readVkey, type Verifier } from "../tlog/note.ts";

/** --key, by which a log's signatures are known: as GET /v1/log has it in `vkey`, or a file with that. */
export function keyOption(description: string): Option {
  return new Option("--key <vkey>", description).argParser(readKey);
}

/** The same, which may be repeated. */
export function keysOption(description: string): Option {
  return new Option("--key <vkey>", description)
    .argParser((given: string, before: readonly Verifier[]) => [...before, readKey(given)])
    .default([], "none");
}

function readKey(given: string): Verifier {
  const text = existsSync(given) ? readFileSync(given, "utf8").trim() : given;
  const verifier = readVkey(text);
  if (verifier === null)
    throw new InvalidArgumentError("It is no verifier key of an Ed25519 key, and no file with one.");
  return verifier;
}
