import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import { FileSource } from "../client/file_source.ts";
import { UrlSource } from "../client/url_source.ts";
import { visibleJson } from "../codec/visible.ts";
import type { OpenTarget } from "../http/jobs/replays.ts";
import { BpftoolTarget } from "../replay/bpftool.ts";
import { CurlTarget } from "../replay/curl.ts";
import { DRY } from "../replay/dry.ts";
import { Ids } from "../replay/ids.ts";
import { writeEvents } from "../replay/ndjson.ts";
import { type Clock, Pace } from "../replay/pace.ts";
import { Replay } from "../replay/replay.ts";
import { isFiltered, type Selection } from "../replay/selection.ts";
import type { Source } from "../replay/source.ts";
import type { Summary } from "../replay/summary.ts";
import { TargetFailed } from "../replay/target.ts";
import { openTarget } from "../service/replay_targets.ts";
import { archiveOption } from "./archive_option.ts";
import { openLog } from "./archived_source.ts";
import { Progress } from "./progress.ts";
import { addSelectionOptions, positionsIn, type SelectionOptions, selectionOf } from "./selection_options.ts";
import { EXIT } from "./subcommand.ts";

interface Options extends SelectionOptions {
  readonly to: string;
  readonly token?: string;
  readonly sourceToken?: string;
  readonly speed?: number;
  readonly prepare: boolean;
  readonly sameIds: boolean;
  readonly ids?: string;
  readonly dryRun: boolean;
  readonly archive?: string;
}

const WORDS = ["kernel", "ndjson", "curl", "bpftool"];

export function addReplay(program: Command): void {
  const command = program
    .command("replay")
    .description(
      "Sends recorded commands again, in their order, and reports each answer that differs from the recorded one; or prints the commands.",
    )
    .argument(
      "[source]",
      "source of the commands: data directory, URL of a mapledger, NDJSON file (exported by GET /v1/events), or - for NDJSON on stdin (default: MAPLEDGER_DATA or ./data)",
    )
    .addOption(toOption().default("ndjson"));
  command.addOption(archiveOption());
  addSelectionOptions(addReplayOptions(command)).action((source: string | undefined, options: Options) =>
    run(source ?? process.env.MAPLEDGER_DATA ?? "./data", options),
  );
}

export function addImport(program: Command): void {
  const command = program
    .command("import")
    .description("Sends the commands of an NDJSON export to a mapledger: a replay from a file to a URL.")
    .argument("<file>", "NDJSON file (exported by GET /v1/events), or - for NDJSON on stdin")
    .addOption(toOption().makeOptionMandatory());
  addSelectionOptions(addReplayOptions(command)).action((file: string, options: Options) => run(file, options));
}

function toOption(): Option {
  return new Option(
    "--to <target>",
    "receiver of the commands: URL of a mapledger, unix:PATH of its socket, or kernel (this machine's); or the form in which they are printed to stdout: ndjson, curl or bpftool",
  ).argParser(target);
}

function addReplayOptions(command: Command): Command {
  return command
    .addOption(new Option("--token <token>", "bearer token for the target").env("MAPLEDGER_TOKEN"))
    .addOption(
      new Option("--source-token <token>", "bearer token for a source that is a URL").env("MAPLEDGER_SOURCE_TOKEN"),
    )
    .addOption(
      new Option("--speed <factor>", "multiple of the original speed (default: as fast as possible)").argParser(factor),
    )
    .option(
      "--prepare",
      "also send the commands before and between the selected ones that changed something; with --map, of the commands on elements only those of that map",
      false,
    )
    .option("--same-ids", "the target is a restored copy: objects from before the range have the same ids there", false)
    .option(
      "--ids <file>",
      "load the mapping of recorded ids to the target's from this file if it exists, and save it there",
    )
    .option("--dry-run", "send nothing, but count the commands that would be sent", false);
}

function target(text: string): string {
  if (WORDS.includes(text) || isService(text)) return text;
  throw new InvalidArgumentError(`${WORDS.join(", ")}, http://... or unix:PATH is needed.`);
}

function factor(text: string): number {
  const speed = Number(text);
  if (/^\d+(\.\d+)?$/.test(text) && speed > 0) return speed;
  throw new InvalidArgumentError("a number above 0 is needed.");
}

function isUrl(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text);
}

/** Whether the target is a mapledger service. */
function isService(text: string): boolean {
  return isUrl(text) || /^unix:./.test(text);
}

const CLOCK: Clock = {
  nowMs: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, undefined, { ...(signal !== undefined && { signal }) }).catch(() => {}),
};

async function run(from: string, options: Options): Promise<void> {
  const selection = selectionOf(options);
  const source = await openSource(from, options, selection);
  await checkPositions(source, positionsIn(options));
  const progress = source.extent === null ? null : new Progress("replaying", source.extent.total, source.extent.unit);
  const beat = setInterval(() => progress?.update(source.done), 100);
  try {
    if (options.to === "ndjson" && !options.dryRun) await writeEvents(source, selection, write);
    else await replay(source, selection, options, () => progress?.stop());
  } finally {
    clearInterval(beat);
    progress?.stop();
  }
}

/**
 * With --prepare the source is read without the selection: earlier commands that are not selected may have to be sent,
 * too.
 */
async function openSource(
  from: string,
  { sourceToken, prepare, archive }: Options,
  selection: Selection,
): Promise<Source> {
  if (isUrl(from)) return UrlSource.open(new URL(from), sourceToken ?? null, prepare ? {} : selection);
  if (from !== "-" && !existsSync(from))
    throw new Error(`${from} does not exist: a data directory, a URL or a file is needed`);
  if (from !== "-" && statSync(from).isDirectory()) return openLog(from, archive ?? null, prepare ? {} : selection);
  return new FileSource(from);
}

/** Checks that the source is the log that has given out these positions. */
async function checkPositions(source: Source, positions: readonly string[]): Promise<void> {
  for (const position of positions) {
    if (source.check === undefined)
      throw new Error("an export does not name its log: give a seq instead of a position");
    await source.check(position);
  }
}

async function replay(source: Source, selection: Selection, options: Options, done: () => void): Promise<void> {
  const partial = isFiltered(selection) && !options.prepare;
  const ids = new Ids({ same: options.sameIds, partial, oneTable: options.to === "kernel" });
  if (options.ids !== undefined && existsSync(options.ids)) restore(ids, options.ids);
  const opened = targetOf(options);
  if ("refused" in opened) throw new Error(`replaying to the kernel: ${opened.refused}`);
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort());
  const replay = new Replay({
    source,
    target: opened.target,
    ids,
    selection,
    prepare: options.prepare,
    pace: options.speed === undefined ? null : new Pace(options.speed, CLOCK),
    signal: interrupted.signal,
    onDifference: (difference) => process.stdout.write(`${visibleJson(difference)}\n`),
  });
  const started = performance.now();
  let failure: Error | null = null;
  await replay.run().catch((error: Error) => {
    failure = error;
  });
  opened.close();
  done();
  if (options.ids !== undefined) writeFileSync(options.ids, JSON.stringify(ids));
  tell(replay.summary, options, performance.now() - started);
  if (failure !== null) throw stopped(failure, replay, options);
  if (interrupted.signal.aborted) throw stopped(new Error("interrupted"), replay, options);
  if (replay.summary.differences > replay.summary.free) process.exitCode = EXIT.found;
}

function restore(ids: Ids, file: string): void {
  try {
    ids.restore(JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    throw new Error(`reading the ids in ${file}: ${(error as Error).message}`);
  }
}

function targetOf({ to, token, dryRun }: Options): ReturnType<OpenTarget> {
  if (dryRun) return { target: DRY, close() {} };
  if (isService(to)) return openTarget({ url: new URL(to), token: token ?? null });
  if (to === "kernel") return openTarget("kernel");
  return { target: to === "curl" ? new CurlTarget(write) : new BpftoolTarget(write), close() {} };
}

/** Resolves when the reader of stdout has taken the text, so that a slow reader slows down the replay. */
function write(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

/** Writes the summary: to stdout, after the differences; to stderr if a script is on stdout. */
function tell(summary: Summary, { to, dryRun }: Options, ms: number): void {
  const stream = dryRun || isService(to) || to === "kernel" ? process.stdout : process.stderr;
  stream.write(`${visibleJson({ summary: { ...summary, seconds: Math.round(ms) / 1000 } })}\n`);
}

/** An Error that says how far the replay came, and how to continue it. */
function stopped(why: Error, { summary, unanswered }: Replay, { ids, to }: Options): Error {
  const { last_seq } = summary;
  const maybe = why instanceof TargetFailed && unanswered > 0 ? `; ${unanswered} more commands may have run` : "";
  const how = ids === undefined ? "--prepare to an empty target" : `--ids ${ids} while its sessions live`;
  const on = isService(to) ? `; to continue, use --after ${last_seq} and ${how}` : "";
  return new Error(`${why.message}: the replay reached event ${last_seq}${maybe}${on}`);
}
