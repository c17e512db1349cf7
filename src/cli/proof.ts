import { type Command, InvalidArgumentError } from "commander";
import { archivedLog } from "../archive/archive.ts";
import { logOf, makeProof, type ProofPlaces } from "../data/offline_proof.ts";
import { becomeOwner } from "../files/owner.ts";
import { archiveOption } from "./archive_option.ts";
import { dataOption } from "./data_option.ts";

interface Options {
  readonly data: string;
  readonly archive?: string;
  readonly checkpoint?: string;
}

const MORE = `
The proof is the same as that of GET /v1/events/{seq}/proof, for mapledger verify-proof, but
needs no service. No checkpoint is signed for it: a signed one must already include the event.
With --archive, the event is read from the archive. Tree and checkpoint come from the data
directory if it belongs to the same log; otherwise from the archive's tiles, and from the
newest checkpoint that is recorded in its events.`;

export function addProof(program: Command): void {
  program
    .command("proof")
    .description("Proves that an event is in the log, from the files of a data directory or an archive.")
    .argument("<seq>", "the event", seqOf)
    .addOption(dataOption())
    .addOption(archiveOption())
    .option("--checkpoint <file>", "prove the event against this checkpoint, which was kept elsewhere")
    .addHelpText("after", MORE)
    .action(async (seq: number, options: Options, command: Command) => {
      const places = placesOf(options, command.getOptionValueSource("data") === "cli");
      if (places.data !== null) becomeOwner(places.data);
      process.stdout.write(await makeProof(seq, places));
    });
}

function placesOf({ data, archive, ...given }: Options, isNamed: boolean): ProofPlaces {
  const { checkpoint = null } = given;
  if (archive === undefined) return { data, archive: null, checkpoint };
  const log = archivedLog(archive);
  if (log === null) throw new Error(`${archive} is not an archive: it has no archive.json`);
  const isSame = logOf(data) === log;
  if (isNamed && !isSame) throw new Error(`${archive} is the archive of log ${log}, but ${data} has another log`);
  return { data: isSame ? data : null, archive, checkpoint };
}

function seqOf(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("the seq of an event is needed.");
}
