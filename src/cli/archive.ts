import { type Command, Option } from "commander";
import type { ArchiveProgress } from "../archive/make.ts";
import { archiveByService } from "../client/archive_job.ts";
import { visible } from "../codec/visible.ts";
import { archiveStopped } from "../data/archive_job.ts";
import { type ArchiveAttr, ArchiveRefused } from "../engine/archives.ts";
import { becomeOwner } from "../files/owner.ts";
import { dataOption } from "./data_option.ts";
import { Progress } from "./progress.ts";
import { tokenOption, urlOption } from "./service_options.ts";

interface Options {
  readonly before: string;
  readonly archive: string;
  readonly data: string;
  readonly url?: string;
  readonly token?: string;
}

export function addArchive(program: Command): void {
  program
    .command("archive")
    .description(
      "Moves older events into compressed files. The state stays complete, and an event records the archived range.",
    )
    .requiredOption("--before <seq|time>", "archive the events before this seq, or before this moment (RFC 3339)")
    .addOption(
      new Option("--archive <dir>", "folder of the archive (default: archive/ in the data directory)")
        .env("MAPLEDGER_ARCHIVE")
        .default("", ""),
    )
    .addOption(dataOption())
    .addOption(urlOption("ask a running service to archive, to the folder of its MAPLEDGER_ARCHIVE"))
    .addOption(tokenOption())
    .action(async (options: Options, command: Command) => {
      if (options.url !== undefined && command.getOptionValueSource("archive") === "cli")
        command.error("error: --archive cannot be used with --url: the service archives to its own MAPLEDGER_ARCHIVE");
      const progress = new StepProgress();
      const done = await (options.url === undefined
        ? archiveHere(options, progress)
        : archiveThere(options, progress)
      ).finally(() => progress.stop());
      process.stdout.write(
        `${visible("why" in done ? done.why : `events ${done.first} to ${done.through} are in ${done.directory}`)}\n`,
      );
    });
}

type Done = Pick<ArchiveAttr, "first" | "through" | "directory"> | { readonly why: string };

async function archiveHere({ archive: directory, data, before }: Options, progress: StepProgress): Promise<Done> {
  becomeOwner(data);
  try {
    return await archiveStopped({ data, directory, before }, progress.update);
  } catch (error) {
    if (error instanceof ArchiveRefused && error.why === "nothing to archive") return { why: error.message };
    throw error;
  }
}

function archiveThere({ url = "", token, before }: Options, progress: StepProgress): Promise<Done> {
  return archiveByService({ url, token, before }, ({ first, through, done_events: doneEvents }) =>
    progress.update({ step: "comparing", doneEvents, totalEvents: through - first + 1 }),
  );
}

/** Draws one progress bar for each step that goes through events. */
class StepProgress {
  #step = "";
  #bar: Progress | null = null;

  readonly update = ({ step, doneEvents, totalEvents }: ArchiveProgress): void => {
    if (step !== this.#step) {
      this.stop();
      this.#step = step;
      this.#bar = totalEvents === 0 ? null : new Progress(step, totalEvents, "events");
    }
    this.#bar?.update(doneEvents);
  };

  stop(): void {
    this.#bar?.stop();
    this.#bar = null;
  }
}
