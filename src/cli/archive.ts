import type { Command } from "commander";
import type { ArchiveProgress } from "../archive/make.ts";
import { archiveStopped } from "../archiving.ts";
import { ArchiveRefused } from "../engine/archives.ts";
import { dataOption } from "./data_option.ts";
import { Progress } from "./progress.ts";

interface Options {
  readonly before: string;
  readonly archive: string;
  readonly data: string;
}

export function addArchive(program: Command): void {
  program
    .command("archive")
    .description("Moves older events to compressed files; the state stays, and the log says what was archived.")
    .requiredOption("--before <seq|time>", "events before this one, or before this moment (RFC 3339)")
    .option("--archive <dir>", "folder of the archive; archive/ in the data directory by default", "")
    .addOption(dataOption())
    .action(async ({ archive: directory, ...options }: Options) => {
      const told = new Told();
      try {
        const { first, through, segments, ...attr } = await archiveStopped({ ...options, directory }, told.progress);
        process.stdout.write(`events ${first} to ${through} are in ${attr.directory}: ${segments.length} segments\n`);
      } catch (error) {
        if (!(error instanceof ArchiveRefused) || error.why !== "nothing to archive") throw error;
        process.stdout.write(`${error.message}\n`);
      } finally {
        told.stop();
      }
    });
}

/** A bar for each step that goes through the events. */
class Told {
  #step = "";
  #bar: Progress | null = null;

  readonly progress = ({ step, doneEvents, totalEvents }: ArchiveProgress): void => {
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
