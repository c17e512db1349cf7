import type { Command } from "commander";
import { becomeOwner } from "../files/owner.ts";
import { InUse } from "../sqlite/lock.ts";
import { type BegunTree, beginTree } from "../verify/new_tree.ts";
import { archiveOption } from "./archive_option.ts";
import { dataOption } from "./data_option.ts";

interface Options {
  readonly data: string;
  readonly origin: string;
  readonly archive?: string;
}

const MORE = `
Use this command if the service says that it no longer signs checkpoints, and neither the
log nor the tree can be restored. The service must be stopped. An event (TREE_BEGIN) records
the reason and the newest signed checkpoint. If the log still has the events of that
checkpoint, the new tree continues it. If not, checkpoints get another origin: to witnesses,
and to those who have kept a checkpoint, the log is then another log. The former tree stays
in the data directory as tree-until-SEQ.sqlite.`;

export function addTree(program: Command): void {
  program
    .command("tree")
    .description("Commands for the log's Merkle tree.")
    .command("begin-anew")
    .description("Builds the tree anew from the log, if it is missing, damaged, or does not belong to the log.")
    .addOption(dataOption())
    .option("--origin <name>", "MAPLEDGER_ORIGIN of the service", process.env.MAPLEDGER_ORIGIN ?? "")
    .addOption(archiveOption())
    .addHelpText("after", MORE)
    .action(({ data, origin, archive }: Options) => {
      for (const line of told(begin({ data, origin, archive: archive ?? null }))) process.stdout.write(`${line}\n`);
    });
}

function begin(asked: Parameters<typeof beginTree>[0]): BegunTree {
  becomeOwner(asked.data);
  try {
    return beginTree(asked);
  } catch (error) {
    throw error instanceof InUse ? new Error(`${error.message}: stop it first`) : error;
  }
}

function* told({ seq, reason, signedSize, continues, origin, vkey, aside }: BegunTree): Iterable<string> {
  yield `event ${seq}: the tree was begun anew: ${reason}`;
  if (signedSize === null) yield "no earlier signed checkpoint is known";
  else if (continues) yield `the new tree continues the checkpoint of size ${signedSize}`;
  else
    yield `the new tree does not continue the checkpoint of size ${signedSize}: checkpoints have another origin from now on`;
  yield `origin ${origin}`;
  yield `key    ${vkey}`;
  if (aside !== null) yield `the former tree is kept as ${aside}`;
}
