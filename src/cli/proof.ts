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
The proof is what GET /v1/events/{seq}/proof answers, for mapledger verify-proof; no service
is needed. Nothing is signed: the event must be in a checkpoint that was. With --archive the
event is read from there; tree and checkpoint are the data directory's if that is of the
same log, else the archive's own: its tiles, and the newest checkpoint that its events tell of.`;

export function addProof(program: Command): void {
  program
    .command("proof")
    .description("Makes a proof that an event is in the log, of a data directory's files or of an archive's.")
    .argument("<seq>", "the event", seqOf)
    .addOption(dataOption())
    .addOption(archiveOption())
    .option("--checkpoint <file>", "a checkpoint that was kept elsewhere, to prove the event against")
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
  if (isNamed && !isSame) throw new Error(`${archive} is the archive of log ${log}, which is not that of ${data}`);
  return { data: isSame ? data : null, archive, checkpoint };
}

function seqOf(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("the seq of an event is needed.");
}
