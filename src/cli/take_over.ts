import type { Command } from "commander";
import { takeOverByService } from "../client/mirror_orders.ts";
import { visible } from "../codec/visible.ts";
import { InUse } from "../sqlite/lock.ts";
import { bpffsOption } from "./bpffs_option.ts";
import { dataOption } from "./data_option.ts";
import { takeOverOffline } from "./offline_mirror.ts";
import { tokenOption, urlOption } from "./service_options.ts";

interface Options {
  readonly data: string;
  readonly bpffs: string;
  readonly url?: string;
  readonly token?: string;
}

const MORE = `
Use this command if the service says that its kernel maps follow another log, another
life of this log, or a later history of it. It does not write to any kernel map.
Afterwards every map is undecided: differences are reported and not repaired, until you
decide whose elements are kept (mapledger mirror decide).
A directory that another process holds cannot be taken over: stop that process first.`;

export function addTakeOver(program: Command): void {
  program
    .command("take-over")
    .description("Makes the kernel maps in the directory of pins follow this log, whatever log they followed before.")
    .addOption(dataOption())
    .addOption(bpffsOption())
    .addOption(urlOption("ask a running service to take over, for its own data directory and MAPLEDGER_BPFFS"))
    .addOption(tokenOption())
    .addHelpText("after", MORE)
    .action(async ({ url, token, ...offline }: Options, command: Command) => {
      if (url !== undefined && command.getOptionValueSource("bpffs") === "cli")
        command.error("error: --bpffs cannot be used with --url: the service uses its own MAPLEDGER_BPFFS");
      const told = url === undefined ? here(offline) : `event ${await takeOverByService({ url, token })}`;
      process.stdout.write(
        `taken over: ${visible(told)}\nevery map is undecided now: differences are reported and not repaired until you run\n` +
          "  mapledger mirror decide MAP --take ledger|kernel\n",
      );
    });
}

function here(offline: { readonly data: string; readonly bpffs: string }): string {
  try {
    const { directory, owner, seq } = takeOverOffline(offline);
    return `${directory}, which belonged to ${owner}: event ${seq}`;
  } catch (error) {
    if (error instanceof InUse) throw new Error(`${error.message}: stop it, or ask it with --url`);
    throw error;
  }
}
