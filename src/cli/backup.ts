import type { Command } from "commander";
import { makeBackup } from "../backup/make.ts";
import type { Manifest } from "../backup/manifest.ts";
import { restoreBackup } from "../backup/restore.ts";
import { visible } from "../codec/visible.ts";
import { dataOption } from "./data_option.ts";
import { Progress } from "./progress.ts";

const MIB = 1024 * 1024;

export function addBackup(program: Command): void {
  program
    .command("backup")
    .description(
      "Copies the log as of one moment, and all other files that cannot be derived from it; the service may be running.",
    )
    .argument("<dir>", "the backup: a directory that is empty or does not exist")
    .addOption(dataOption())
    .action(async (folder: string, { data }: { data: string }) => {
      const progress = new OperationProgress("backing up", "pages");
      const manifest = await progress.around(`backing up ${data} to ${folder}`, () =>
        makeBackup(data, folder, progress.update),
      );
      process.stdout.write(`${visible(`${folder} has ${described(manifest)}`)}\n`);
      if (manifest.has_key)
        process.stdout.write(
          "the backup contains log.key: protect it as you protect that key, because anyone who reads it can sign as this log\n",
        );
    });
}

export function addRestoreBackup(program: Command): void {
  program
    .command("restore-backup")
    .description("Makes a data directory from a backup. The next start builds the state from the log.")
    .argument("<dir>", "the backup")
    .addOption(dataOption())
    .action(async (folder: string, { data }: { data: string }) => {
      const progress = new OperationProgress("checking", "bytes");
      const manifest = await progress.around(`restoring ${folder} to ${data}`, () =>
        restoreBackup(folder, data, progress.update),
      );
      process.stdout.write(`${visible(`${data} has ${described(manifest)}`)}\n`);
      process.stdout.write(
        "its next event, BACKUP_RESTORE, names the checkpoint that it continues; its checkpoints have an origin of their own\n",
      );
    });
}

function described({ log, seq, time, files }: Manifest): string {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const events = time === null ? "without events" : `up to event ${seq} of ${time}`;
  return `log ${log} ${events}: ${files.length} files, ${(bytes / MIB).toFixed(1)} MiB`;
}

/** A progress bar that starts with the first update, which brings the total. */
class OperationProgress {
  readonly #what: string;
  readonly #unit: string;
  #progress: Progress | null = null;
  #total = 0;

  constructor(what: string, unit: string) {
    this.#what = what;
    this.#unit = unit;
  }

  readonly update = (done: number, total: number): void => {
    if (this.#progress === null || total !== this.#total) {
      this.#progress?.stop();
      this.#progress = new Progress(this.#what, total, this.#unit);
      this.#total = total;
    }
    this.#progress.update(done);
  };

  /** Runs an operation with the progress bar; an Error of it is prefixed with `what`. */
  async around<Answer>(what: string, run: () => Promise<Answer>): Promise<Answer> {
    try {
      return await run();
    } catch (error) {
      throw new Error(`${what}: ${(error as Error).message}`);
    } finally {
      this.#progress?.stop();
    }
  }
}
