import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { KeptCheckpoint } from "../engine/tree.ts";
import { openNote, readCheckpoint, type Verifier } from "../log/note.ts";
import { findingText } from "../verify/finding.ts";
import { checkStateApart } from "../verify/state_process.ts";
import { type Verified, verify } from "../verify/verify.ts";
import { archiveOption } from "./archive_option.ts";
import { keyOption } from "./key_option.ts";
import { Progress } from "./progress.ts";
import { EXIT } from "./subcommand.ts";

interface Options {
  readonly key?: Verifier;
  readonly checkpoint?: string;
  readonly archive?: string;
}

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
    .option("--checkpoint <file>", "a checkpoint that was kept elsewhere, to be held against the log; needs --key")
    .addOption(archiveOption())
    .action(async (data: string, { key, checkpoint, archive }: Options, command: Command) => {
      if (checkpoint !== undefined && key === undefined)
        command.error("error: --checkpoint needs --key: whose it is to be", { exitCode: EXIT.usage });
      const kept = checkpoint === undefined ? null : readKept(checkpoint, key as Verifier);
      await run(data, archive ?? null, key ?? null, kept);
    });
}

async function run(
  data: string,
  archive: string | null,
  trusted: Verifier | null,
  kept: KeptCheckpoint | null,
): Promise<void> {
  if (!existsSync(join(data, "events.sqlite"))) throw new Error(`verifying ${data}: it has no events.sqlite`);
  let progress: Progress | null = null;
  const verified = await verify({
    data,
    archive,
    trusted,
    kept,
    checkState: checkStateApart,
    progress(events, total) {
      progress ??= new Progress("verifying", total, "events");
      progress.update(events);
    },
  });
  (progress as Progress | null)?.stop();
  for (const finding of verified.findings) process.stdout.write(`WRONG ${findingText(finding)}\n`);
  for (const line of summary(verified, trusted !== null)) process.stdout.write(`${line}\n`);
  if (verified.findings.length > 0) process.exitCode = EXIT.found;
}

/** Throws where it is none, or another's. */
function readKept(file: string, verifier: Verifier): KeptCheckpoint {
  const note = readFileSync(file, "utf8");
  const opened = openNote(note, verifier);
  if ("wrong" in opened) throw new Error(`reading ${file}: ${opened.wrong}`);
  const checkpoint = readCheckpoint(opened.text);
  if (checkpoint === null) throw new Error(`reading ${file}: what is signed is no checkpoint`);
  return { size: checkpoint.size, root: checkpoint.root, note, timeUs: 0 };
}

/** What was looked at, also where nothing is wrong. */
function* summary({ log, lastSeq, treeSize, vkey, archived, state }: Verified, isTrusted: boolean): Iterable<string> {
  const until = log.events < lastSeq ? `; reading ended at ${log.events}` : "";
  yield `events       ${lastSeq}${until}`;
  if (archived.unread !== null)
    yield `archive      events up to ${archived.through} are the tree's, for they could not be read: ${archived.unread}`;
  else if (archived.through > 0) yield `archive      events up to ${archived.through} are from there`;
  if (treeSize === null) yield "tree         there is none: nothing vouches for the events";
  else if (treeSize < lastSeq)
    yield `tree         vouches for events up to ${treeSize}, nothing does yet for ${treeSize + 1} to ${lastSeq}`;
  else yield `tree         vouches for all of them`;
  yield `checkpoints  ${log.checkpoints} hold${log.checkpoints === 0 ? "" : `, up to event ${log.signedSize}`}`;
  if (vkey !== null) yield `key          ${vkey}${isTrusted ? "" : ", as the directory itself says"}`;
  if (state.none !== null) yield `state        not compared: ${state.none}`;
  else if (state.findings.length === 0)
    yield `state        ${state.cells} cells are what the events up to ${state.seq} add up to`;
}
