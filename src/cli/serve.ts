import type { Command } from "commander";

interface Options {
  readonly readOnly?: string;
  readonly rebuild?: true;
}

const MORE = `
All other settings are environment variables, as for npm start: see docs/operating.md.

--read-only needs neither a kernel nor write access to <dir>. It copies the log and its tree
to a private directory below TMPDIR, which must have room for them. The copy is removed at
the end, or by the next --read-only service if this one was killed. There is a unix socket
only if MAPLEDGER_SOCKET is set. Each run makes a new owner token, and prints it.
Archived events are read from archive/ in <dir>, or from MAPLEDGER_ARCHIVE. If <dir> is an
archive that begins after event 1, MAPLEDGER_ARCHIVE names the folder of earlier events.`;

export function addServe(program: Command): void {
  program
    .command("serve")
    .description(
      "Runs the service. With --read-only, serves reads of a data directory, a backup or an archive, for auditors.",
    )
    .option("--rebuild", "discard the state and build it from the log")
    .option(
      "--read-only <dir>",
      "serve only reads, of a copied data directory, a backup or an archive; nothing in it is changed",
    )
    .addHelpText("after", MORE)
    .action(async ({ readOnly, rebuild }: Options, command: Command) => {
      if (readOnly !== undefined && rebuild === true)
        command.error("error: --rebuild changes the data directory, which --read-only does not do");
      if (readOnly !== undefined) return (await import("../service/read_only.ts")).serveReadOnly(readOnly);
      // process.ts, which npm start runs, too, reads its own options from process.argv.
      process.argv.splice(2, Number.POSITIVE_INFINITY, ...(rebuild === true ? ["--rebuild"] : []));
      await import("../service/process.ts");
    });
}
