import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { visible } from "../codec/visible.ts";
import { checkData } from "../data/entries.ts";
import { LOG_FILE, TREE_FILE } from "../data/layout.ts";
import { becomeOwner } from "../files/owner.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { type Checkpoint, noteParts, openNote, readCheckpoint, signatureLine, type Verifier } from "../tlog/note.ts";
import { findingText } from "../verify/finding.ts";
import type { Signed } from "../verify/log_check.ts";
import { checkStateApart } from "../verify/state_process.ts";
import { type Verified, verify } from "../verify/verify.ts";
import { archiveOption } from "./archive_option.ts";
import { keysOption } from "./key_option.ts";
import { Progress } from "./progress.ts";
import { EXIT } from "./subcommand.ts";
import { cosignedFault, type Quorum, quorumOf, quorumOption, type WitnessOptions, witnessOption } from "./trust.ts";

interface Options extends WitnessOptions {
  readonly key: readonly Verifier[];
  readonly checkpoint: readonly string[];
  readonly archive?: string;
}

/** Whose word counts for a checkpoint that was kept elsewhere. */
interface Trust extends Quorum {
  /** Any of these; empty: nobody's. */
  readonly keys: readonly Verifier[];
}

const MORE = `
Who could write to the data directory could read its key, and sign another history anew: of
that only evidence from outside tells. Give --checkpoint once for each checkpoint that was
kept elsewhere. It counts if a --key has signed it, or as many of the witnesses as --quorum
says have cosigned it; if both are given, both are needed. With --witness and no --checkpoint,
the cosigned checkpoints in the directory count: no key that lies there can cosign. The first
that does not hold, with the last that does, names the narrowest range of changed events.`;

export function addVerify(program: Command): void {
  program
    .command("verify")
    .description(
      "Reads the whole log and computes everything anew: hashes, tree, checkpoints, state. Names the first event that is wrong.",
    )
    .argument("[data]", "data directory of a service, which may run meanwhile", process.env.MAPLEDGER_DATA ?? "./data")
    .addOption(
      keysOption(
        "whose signatures count: `vkey` of GET /v1/log, or a file with it; may be repeated (default: the directory's own)",
      ),
    )
    .option(
      "--checkpoint <file>",
      "a checkpoint that was kept elsewhere, to be held against the log; may be repeated",
      more,
      [],
    )
    .addOption(witnessOption())
    .addOption(quorumOption())
    .addOption(archiveOption())
    .addHelpText("after", MORE)
    .action(async (data: string, options: Options, command: Command) => {
      const { key, checkpoint, witness, archive } = options;
      if (checkpoint.length > 0 && key.length === 0 && witness.length === 0)
        command.error("error: --checkpoint needs --key or --witness: whose it is to be", { exitCode: EXIT.usage });
      checkData(data);
      const trust: Trust = { keys: key, ...quorumOf(options, command) };
      const given = checkpoint.map((file) => readOutside(file, trust));
      // Files that were kept elsewhere may be root's.
      becomeOwner(data);
      const outside = checkpoint.length === 0 && witness.length > 0 ? cosignedIn(data, trust) : given;
      await run(data, archive ?? null, key, outside);
    });
}

function more(file: string, before: readonly string[]): string[] {
  return [...before, file];
}

async function run(
  data: string,
  archive: string | null,
  trusted: readonly Verifier[],
  outside: readonly Signed[],
): Promise<void> {
  if (!existsSync(join(data, LOG_FILE))) throw new Error(`verifying ${data}: it has no events.sqlite`);
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
  for (const line of summary(verified, trusted.length > 0, outside.length)) process.stdout.write(`${visible(line)}\n`);
  if (verified.findings.length > 0) process.exitCode = EXIT.found;
}

/** Throws if it is no checkpoint, or nobody vouches for it whose word counts. */
function readOutside(file: string, trust: Trust): Signed {
  const note = readFileSync(file, "utf8");
  const checkpoint = checkedOutside(note, trust);
  if (typeof checkpoint === "string") throw new Error(`reading ${file}: ${checkpoint}`);
  return { size: checkpoint.size, root: checkpoint.root, note, timeUs: 0, outside: file };
}

/** Checkpoints that the directory itself keeps, which no key in it can have cosigned. Throws if there are none with the quorum. */
function cosignedIn(data: string, trust: Trust): Signed[] {
  const file = join(data, TREE_FILE);
  const tree = existsSync(file) ? new TreeFile(file) : null;
  try {
    const sizes = new Set(Array.from(tree?.cosigners() ?? [], ({ size }) => size));
    const found = [...sizes]
      .sort((a, b) => a - b)
      .flatMap((size): Signed[] => {
        const kept = tree?.checkpoint(size) ?? null;
        if (kept === null) return [];
        const lines = tree?.cosignatures(size).map(({ name, bytes }) => signatureLine(name, bytes)) ?? [];
        const checkpoint = checkedOutside(kept.note + lines.join(""), trust);
        return typeof checkpoint === "string"
          ? []
          : [{ ...kept, size: checkpoint.size, root: checkpoint.root, outside: file }];
      });
    if (found.length > 0) return found;
    throw new Error(`verifying ${data}: it has no checkpoint that ${trust.quorum} of the witnesses have cosigned`);
  } finally {
    tree?.close();
  }
}

/** Or why it does not count. */
function checkedOutside(note: string, trust: Trust): Checkpoint | string {
  const opened = trust.keys.length === 0 ? noteParts(note) : openByAny(note, trust.keys);
  if ("wrong" in opened) return opened.wrong;
  return cosignedFault(note, trust) ?? readCheckpoint(opened.text) ?? "what is signed is no checkpoint";
}

/** By the first key that has signed it; otherwise what the first says. */
function openByAny(note: string, keys: readonly Verifier[]): ReturnType<typeof openNote> {
  const opened = keys.map((key) => openNote(note, key));
  return opened.find((one) => "text" in one) ?? (opened[0] as ReturnType<typeof openNote>);
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
