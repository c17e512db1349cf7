import type { Command } from "commander";
import { visible } from "../codec/visible.ts";
import type { Inventory, MapPin } from "../mirror/inventory.ts";
import { FOREIGN_MAX } from "../mirror/listing.ts";
import { InUse } from "../sqlite/lock.ts";
import { bpffsOption } from "./bpffs_option.ts";
import { dataOption } from "./data_option.ts";
import { leaveOffline, lookOffline, type Offline, type OnHost } from "./offline_mirror.ts";
import { EXIT } from "./subcommand.ts";

interface Options extends Offline {
  readonly unpin: boolean;
}

const MORE = `
Without --unpin, nothing is changed, and the service may be running. With --unpin, the
service must be stopped. mapledger then removes the pins that it has made, and its mark.
It does not remove pins from which maps were adopted, foreign pins, anything in aside/,
or kernel maps that programs use.
If mapledger starts again afterwards, it makes new kernel maps for its own maps, which
running programs do not use; an adopted map waits until its owner's pin names its
kernel map.`;

export function addLeave(group: Command): void {
  group
    .command("leave")
    .description("Lists the pins that mapledger has made on this host; with --unpin, removes them.")
    .option("--unpin", "remove the pins", false)
    .addOption(dataOption())
    .addOption(bpffsOption())
    .addHelpText("after", MORE)
    .action(({ unpin, ...offline }: Options) => (unpin ? leave(offline) : list(offline)));
}

async function list(offline: Offline): Promise<void> {
  const { directory, log, inventory } = await lookOffline(offline);
  if (inventory === null) return say(nothingIn(directory));
  say(`log        ${log}, in ${directory}`);
  for (const line of lines(inventory)) say(line);
}

async function leave(offline: Offline): Promise<void> {
  const done = await leaveOffline(offline).catch((error: Error) => {
    throw error instanceof InUse ? new Error(`${error.message}: stop it first`) : error;
  });
  if (done === null) return say(`nothing was removed: ${nothingIn(offline.bpffs)}`);
  const { removed, left, seq } = done;
  const stays = new Set(left.map(({ path }) => path));
  for (const path of removed) if (!stays.has(path)) say(`removed    ${path}`);
  say(
    `event ${seq}: kernel maps that programs use live on. If mapledger starts again, it makes new kernel maps for its own`,
  );
  say("maps, which these programs do not use; an adopted map waits until its owner's pin names its kernel map.");
  for (const { path, why } of left) process.stderr.write(`${visible(`mapledger: ${path} was not removed: ${why}`)}\n`);
  if (left.length > 0) process.exitCode = EXIT.failed;
}

function* lines({ own, sessions, kept, owners, aside, foreign, more, unread }: Inventory): Iterable<string> {
  for (const pin of own) yield `own pin    ${told(pin)}`;
  for (const pin of sessions) yield `session's  ${told(pin)}`;
  for (const path of kept) yield `kept       ${path}`;
  for (const pin of owners) yield `owner's    ${told(pin)}: not mapledger's, stays`;
  for (const path of aside) yield `aside      ${path}: not mapledger's, stays`;
  for (const path of foreign) yield `foreign    ${path}: not mapledger's, stays`;
  if (more) yield `           only the first ${FOREIGN_MAX} foreign pins are listed`;
  for (const why of unread) yield `not known  ${why}`;
}

function told({ path, map, name, kernelId }: MapPin): string {
  const called = name === null ? ", freed" : name === "" ? "" : ` ${JSON.stringify(name)}`;
  return `${path}: map ${map}${called}, kernel map ${kernelId}`;
}

function nothingIn(directory: OnHost["directory"]): string {
  return `${directory} has no mark of mapledger, so nothing in it belongs to one`;
}

function say(line: string): void {
  process.stdout.write(`${visible(line)}\n`);
}
