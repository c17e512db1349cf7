import { type Command, InvalidArgumentError, Option } from "commander";
import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { InvalidInput } from "../codec/invalid.ts";
import { readTimeUs } from "../codec/moments.ts";
import { bytes } from "../codec/scalars.ts";
import type { Selection } from "../replay/selection.ts";

/** What the options below give. */
export interface SelectionOptions {
  readonly map?: number;
  readonly session?: number;
  readonly caller?: string;
  readonly cmd?: number;
  readonly errno?: number;
  readonly key?: Buffer;
  readonly since?: number;
  readonly until?: number;
  readonly after?: number;
  readonly before?: number;
}

/** The filters of GET /v1/events. */
export function addSelectionOptions(command: Command): Command {
  return command
    .addOption(new Option("--map <id>", "commands on this map").argParser(integer))
    .addOption(new Option("--session <id>", "of this session; 0: of none").argParser(integer))
    .addOption(new Option("--caller <name>", "sent by this caller"))
    .addOption(new Option("--cmd <cmd>", "of this name or number").argParser(named(CMD)))
    .addOption(new Option("--errno <errno>", "refused with it; 0: those that succeeded").argParser(named(ERRNO)))
    .addOption(new Option("--key <hex>", "whose key begins so; of a batch, any key").argParser(read(bytes)))
    .addOption(new Option("--since <time>", "from this moment on, RFC 3339").argParser(read(readTimeUs)))
    .addOption(new Option("--until <time>", "up to this moment").argParser(read(readTimeUs)))
    .addOption(new Option("--after <seq>", "behind this event").argParser(integer))
    .addOption(new Option("--before <seq>", "in front of this event").argParser(integer));
}

export function selectionOf({ since, until, after, before, ...fields }: SelectionOptions): Selection {
  return {
    ...fields,
    ...(since !== undefined && { sinceUs: since }),
    ...(until !== undefined && { untilUs: until }),
    ...(after !== undefined && { afterSeq: after }),
    ...(before !== undefined && { beforeSeq: before }),
  };
}

function integer(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("a number is needed.");
}

const named =
  (names: Readonly<Record<string, number>>) =>
  (text: string): number => {
    if (Object.hasOwn(names, text)) return names[text] as number;
    if (/^-?\d{1,9}$/.test(text)) return Number(text);
    throw new InvalidArgumentError("a name or a number is needed.");
  };

const read =
  <Value>(reader: (text: string, where: string) => Value) =>
  (text: string): Value => {
    try {
      return reader(text, "it");
    } catch (fault) {
      if (fault instanceof InvalidInput) throw new InvalidArgumentError(fault.message);
      throw fault;
    }
  };
