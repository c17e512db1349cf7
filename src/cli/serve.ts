import type { Command } from "commander";

interface Options {
  readonly readOnly?: string;
  readonly rebuild?: true;
}

const MORE = `
Everything else is set by environment variables, as for npm start: see the README.

--read-only needs neither a kernel nor the right to write to <dir>. It copies the log and its
tree to a private directory below TMPDIR, which needs room for them and is removed at the
end; if the service was killed, by the next one. The unix socket is where MAPLEDGER_SOCKET
says; there is none unless it is set. The token of its owner is made for each run, and told.
Archived events are read from archive/ in <dir>, or from MAPLEDGER_ARCHIVE, which also names
the folder of earlier events if <dir> is an archive that begins behind event 1.`;

export function addServe(program: Command): void {
  program
    .command("serve")
    .description("Runs the service; or, for an auditor, serves reads of a data directory, a backup or an archive.")
    .option("--rebuild", "make the state again from the log")
    .option(
      "--read-only <dir>",
      "serve reads alone, of a copied data directory, a backup or an archive: nothing in it is written",
    )
    .addHelpText("after", MORE)
    .action(async ({ readOnly, rebuild }: Options, command: Command) => {
      if (readOnly !== undefined && rebuild === true)
        command.error("error: --rebuild changes what --read-only does not");
      if (readOnly !== undefined) return (await import("../service/read_only.ts")).serveReadOnly(readOnly);
      // What npm start runs takes the words behind its own name.
      process.argv.splice(2, Number.POSITIVE_INFINITY, ...(rebuild === true ? ["--rebuild"] : []));
      await import("../main.ts");
    });
}
