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
    .description("Copies the log, and what else cannot be made again, as of one moment; the service may run meanwhile.")
    .argument("<dir>", "the backup: a directory that is empty or not there")
    .addOption(dataOption())
    .action(async (folder: string, { data }: { data: string }) => {
      const told = new Told("backing up", "pages");
      const manifest = await told.around(`backing up ${data} to ${folder}`, () =>
        makeBackup(data, folder, told.update),
      );
      process.stdout.write(`${visible(`${folder} has ${described(manifest)}`)}\n`);
      if (manifest.has_key)
        process.stdout.write(
          "it holds log.key: keep it as you keep that, since who reads it can sign as this log does\n",
        );
    });
}

export function addRestoreBackup(program: Command): void {
  program
    .command("restore-backup")
    .description("Makes a data directory of a backup; the state is made from the log at the next start.")
    .argument("<dir>", "the backup")
    .addOption(dataOption())
    .action(async (folder: string, { data }: { data: string }) => {
      const told = new Told("checking", "bytes");
      const manifest = await told.around(`restoring ${folder} to ${data}`, () =>
        restoreBackup(folder, data, told.update),
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

/** A progress that learns how much there is when it is first told. */
class Told {
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

  /** Does something that tells it; what fails says what it was about. */
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
