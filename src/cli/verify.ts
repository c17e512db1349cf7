import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Command, InvalidArgumentError, Option } from "commander";
import { visible } from "../codec/visible.ts";
import { cosignersOf, readWitnessKey, type WitnessKey } from "../log/cosignature.ts";
import { type Checkpoint, noteParts, openNote, readCheckpoint, type Verifier } from "../log/note.ts";
import { findingText } from "../verify/finding.ts";
import type { Signed } from "../verify/log_check.ts";
import { checkStateApart } from "../verify/state_process.ts";
import { type Verified, verify } from "../verify/verify.ts";
import { archiveOption } from "./archive_option.ts";
import { keyOption } from "./key_option.ts";
import { Progress } from "./progress.ts";
import { EXIT } from "./subcommand.ts";

interface Options {
  readonly key?: Verifier;
  readonly checkpoint: readonly string[];
  readonly witness: readonly WitnessKey[];
  readonly quorum?: number;
  readonly archive?: string;
}

/** Whose word counts for a checkpoint that was kept elsewhere. */
interface Trust {
  readonly key: Verifier | null;
  readonly witnesses: readonly WitnessKey[];
  readonly quorum: number;
}

const MORE = `
Who could write to the data directory could read its key, and sign another history anew: of
that only evidence from outside tells. Give --checkpoint once for each checkpoint that was
kept elsewhere. It counts if the --key has signed it, or as many of the witnesses as
--quorum says have cosigned it; if both are given, both are needed. The first that does
not hold, with the last that does, names the narrowest range in which events were changed.`;

export function addVerify(program: Command): void {
  program
    .command("verify")
    .description(
      "Reads the whole log and computes everything anew: hashes, tree, checkpoints, state. Names the first event that is wrong.",
    )
    .argument("[data]", "data directory of a service, which may run meanwhile", process.env.MAPLEDGER_DATA ?? "./data")
    .addOption(
      keyOption("whose signatures count: `vkey` of GET /v1/log, or a file with it (default: the directory's own)"),
    )
    .option(
      "--checkpoint <file>",
      "a checkpoint that was kept elsewhere, to be held against the log; may be repeated",
      more,
      [],
    )
    .addOption(
      new Option("--witness <vkey>", "whose cosignatures count, or a file with it; may be repeated")
        .argParser((given: string, before: WitnessKey[]) => [...before, readWitness(given)])
        .default([], "none"),
    )
    .addOption(new Option("--quorum <count>", "how many of them are needed (default: all)").argParser(readCount))
    .addOption(archiveOption())
    .addHelpText("after", MORE)
    .action(async (data: string, { key, checkpoint, witness, quorum, archive }: Options, command: Command) => {
      const fail = (text: string): never => command.error(`error: ${text}`, { exitCode: EXIT.usage });
      if (checkpoint.length > 0 && key === undefined && witness.length === 0)
        fail("--checkpoint needs --key or --witness: whose it is to be");
      if (witness.length > 0 && checkpoint.length === 0) fail("--witness needs --checkpoint: what was cosigned");
      const needed = quorum ?? witness.length;
      if (needed > witness.length) fail(`--quorum is ${needed}, there are ${witness.length} witnesses`);
      const trust: Trust = { key: key ?? null, witnesses: witness, quorum: needed };
      await run(
        data,
        archive ?? null,
        key ?? null,
        checkpoint.map((file) => readOutside(file, trust)),
      );
    });
}

function more(file: string, before: readonly string[]): string[] {
  return [...before, file];
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

async function run(
  data: string,
  archive: string | null,
  trusted: Verifier | null,
  outside: readonly Signed[],
): Promise<void> {
  if (!existsSync(join(data, "events.sqlite"))) throw new Error(`verifying ${data}: it has no events.sqlite`);
  let progress: Progress | null = null;
  const verified = await verify({
    data,
    archive,
    trusted,
    outside,
    checkState: checkStateApart,
    progress(events, total) {
      progress ??= new Progress("verifying", total, "events");
      progress.update(events);
    },
  });
  (progress as Progress | null)?.stop();
  for (const finding of verified.findings) process.stdout.write(`WRONG ${visible(findingText(finding))}\n`);
  for (const line of summary(verified, trusted !== null, outside.length)) process.stdout.write(`${visible(line)}\n`);
  if (verified.findings.length > 0) process.exitCode = EXIT.found;
}

/** Throws if it is no checkpoint, or nobody vouches for it whose word counts. */
function readOutside(file: string, trust: Trust): Signed {
  const note = readFileSync(file, "utf8");
  const checkpoint = checkedOutside(note, trust);
  if (typeof checkpoint === "string") throw new Error(`reading ${file}: ${checkpoint}`);
  return { size: checkpoint.size, root: checkpoint.root, note, timeUs: 0, outside: file };
}

/** Or why it does not count. */
function checkedOutside(note: string, { key, witnesses, quorum }: Trust): Checkpoint | string {
  const opened = key === null ? noteParts(note) : openNote(note, key);
  if ("wrong" in opened) return opened.wrong;
  const cosigners = cosignersOf(note, witnesses).length;
  if (cosigners < quorum) return `${cosigners} of the witnesses have cosigned it, ${quorum} are needed`;
  return readCheckpoint(opened.text) ?? "what is signed is no checkpoint";
}

/** What was looked at, also where nothing is wrong. */
function* summary(
  { log, lastSeq, treeSize, vkey, archived, state }: Verified,
  isTrusted: boolean,
  outside: number,
): Iterable<string> {
  const until = log.events < lastSeq ? `; reading ended at ${log.events}` : "";
  yield `events       ${lastSeq}${until}`;
  if (archived.unread !== null)
    yield `archive      events up to ${archived.through} are the tree's, for they could not be read: ${archived.unread}`;
  else if (archived.through > 0) yield `archive      events up to ${archived.through} are from there`;
  if (treeSize === null) yield "tree         there is none";
  else if (treeSize < lastSeq)
    yield `tree         vouches for events up to ${treeSize}, nothing does yet for ${treeSize + 1} to ${lastSeq}`;
  else yield `tree         vouches for all of them`;
  yield `checkpoints  ${log.checkpoints} hold${log.checkpoints === 0 ? "" : `, up to event ${log.signedSize}`}`;
  const hashed = Math.max(Math.min(treeSize ?? 0, log.events), log.signedSize);
  if (log.signedSize > 0) yield `signed       ${range(1, log.signedSize)}`;
  if (hashed > log.signedSize) yield `hashed only  ${range(log.signedSize + 1, hashed)}: in the tree, in no checkpoint`;
  if (lastSeq > hashed) yield `neither      ${range(hashed + 1, lastSeq)}`;
  if (outside > 0) yield outsideText(log.outsideSize, lastSeq);
  if (vkey !== null) yield `key          ${vkey}${isTrusted ? "" : ", as the directory itself says"}`;
  if (state.none !== null) yield `state        not compared: ${state.none}`;
  else if (state.findings.length === 0)
    yield `state        ${state.cells} cells are what the events up to ${state.seq} add up to`;
}

function range(first: number, last: number): string {
  return first === last ? `event ${first}` : `events ${first} to ${last}`;
}

/** Of the rest the directory's own key alone vouches. */
function outsideText(size: number, lastSeq: number): string {
  if (size === 0) return "outside      no checkpoint that was kept elsewhere holds";
  const rest = size < lastSeq ? `; for ${range(size + 1, lastSeq)} there is the directory's own word alone` : "";
  return `outside      ${range(1, size)} are as they were when the checkpoint was kept elsewhere${rest}`;
}
