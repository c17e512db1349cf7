import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { visible } from "../codec/visible.ts";
import { checkData } from "../data/entries.ts";
import { LOG_FILE, TREE_FILE } from "../data/layout.ts";
import { becomeOwner } from "../files/owner.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { type Checkpoint, noteParts, openNote, readCheckpoint, signatureLine, type Verifier } from "../tlog/note.ts";
import { APART } from "../verify/derived_process.ts";
import { findingText } from "../verify/finding.ts";
import type { Signed } from "../verify/log_check.ts";
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

/** The keys and witnesses that vouch for a checkpoint that was kept elsewhere. */
interface Trust extends Quorum {
  /** One of these keys must have signed; empty: no key has to. */
  readonly keys: readonly Verifier[];
}

const MORE = `
Anyone who can write to the data directory can read its key, and sign a changed history
anew. Only evidence from elsewhere shows that. Give --checkpoint once for each checkpoint
that was kept elsewhere. A checkpoint counts if a --key has signed it, or if --quorum
witnesses have cosigned it; if both are given, both are needed. With --witness and without
--checkpoint, the cosigned checkpoints in the directory count, because no key in the directory
can cosign. If a checkpoint does not match, the changed events lie between the last one that
matches and the first one that does not.`;

export function addVerify(program: Command): void {
  program
    .command("verify")
    .description(
      "Reads the whole log, computes hashes, tree, checkpoints and state anew, and names the first event that is wrong.",
    )
    .argument("[data]", "data directory of a service, which may be running", process.env.MAPLEDGER_DATA ?? "./data")
    .addOption(
      keysOption(
        "verifier key whose signatures count: `vkey` of GET /v1/log, or a file with it; may be repeated (default: the directory's own)",
      ),
    )
    .option(
      "--checkpoint <file>",
      "a checkpoint that was kept elsewhere, to compare the log with; may be repeated",
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
        command.error("error: --checkpoint needs --key or --witness, to verify its signatures", {
          exitCode: EXIT.usage,
        });
      checkData(data);
      const trust: Trust = { keys: key, ...quorumOf(options, command) };
      const given = checkpoint.map((file) => readOutside(file, trust));
      // The files above may be readable for root only, so the owner changes after they are read.
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
    checks: APART,
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

/** Throws if the file is not a checkpoint, or is not signed and cosigned as `trust` demands. */
function readOutside(file: string, trust: Trust): Signed {
  const note = readFileSync(file, "utf8");
  const checkpoint = checkedOutside(note, trust);
  if (typeof checkpoint === "string") throw new Error(`reading ${file}: ${checkpoint}`);
  return { size: checkpoint.size, root: checkpoint.root, note, timeUs: 0, outside: file };
}

/**
 * The directory's own checkpoints that enough witnesses have cosigned. No key in the directory can cosign, so they
 * count as kept outside. Throws if there are none.
 */
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
    throw new Error(`verifying ${data}: no checkpoint in it is cosigned by ${trust.quorum} of the witnesses`);
  } finally {
    tree?.close();
  }
}

/** The checkpoint, or the reason why it does not count. */
function checkedOutside(note: string, trust: Trust): Checkpoint | string {
  const opened = trust.keys.length === 0 ? noteParts(note) : openByAny(note, trust.keys);
  if ("wrong" in opened) return opened.wrong;
  return cosignedFault(note, trust) ?? readCheckpoint(opened.text) ?? "the signed text is not a checkpoint";
}

/** Opens the note with the first key that has signed it; if none has, returns the first key's reason. */
function openByAny(note: string, keys: readonly Verifier[]): ReturnType<typeof openNote> {
  const opened = keys.map((key) => openNote(note, key));
  return opened.find((one) => "text" in one) ?? (opened[0] as ReturnType<typeof openNote>);
}

/** The lines of the report. They are printed even if nothing is wrong. */
function* summary(
  { log, lastSeq, treeSize, vkey, archived, state }: Verified,
  isTrusted: boolean,
  outside: number,
): Iterable<string> {
  const until = log.events < lastSeq ? `; reading ended at ${log.events}` : "";
  yield `events       ${lastSeq}${until}`;
  if (archived.unread !== null)
    yield `archive      events up to ${archived.through} could not be read, only their hashes in the tree: ${archived.unread}`;
  else if (archived.through > 0) yield `archive      events up to ${archived.through} were read from the archive`;
  if (treeSize === null) yield "tree         there is none";
  else if (treeSize < lastSeq) yield `tree         has events up to ${treeSize}, not yet ${treeSize + 1} to ${lastSeq}`;
  else yield `tree         has all events`;
  yield `checkpoints  ${log.checkpoints} hold${log.checkpoints === 0 ? "" : `, up to event ${log.signedSize}`}`;
  const hashed = Math.max(Math.min(treeSize ?? 0, log.events), log.signedSize);
  if (log.signedSize > 0) yield `signed       ${range(1, log.signedSize)}`;
  if (hashed > log.signedSize)
    yield `hashed only  ${range(log.signedSize + 1, hashed)}: in the tree, but in no checkpoint`;
  if (lastSeq > hashed) yield `neither      ${range(hashed + 1, lastSeq)}`;
  if (outside > 0) yield outsideText(log.outsideSize, lastSeq);
  if (vkey !== null) yield `key          ${vkey}${isTrusted ? "" : ", named by the directory itself"}`;
  if (state.none !== null) yield `state        not compared: ${state.none}`;
  else if (state.findings.length === 0)
    yield `state        ${state.cells} cells equal those that the events up to ${state.seq} give`;
}

function range(first: number, last: number): string {
  return first === last ? `event ${first}` : `events ${first} to ${last}`;
}

/** Only events up to `size` are proved by outside evidence; the directory's own key alone vouches for the others. */
function outsideText(size: number, lastSeq: number): string {
  if (size === 0) return "outside      no checkpoint that was kept elsewhere matches";
  const rest = size < lastSeq ? `; only the directory's own key vouches for ${range(size + 1, lastSeq)}` : "";
  return `outside      ${range(1, size)} are unchanged since the checkpoint that was kept elsewhere${rest}`;
}
