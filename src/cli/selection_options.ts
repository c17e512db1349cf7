import { type Command, InvalidArgumentError, Option } from "commander";
import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { InvalidInput } from "../codec/invalid.ts";
import { readTimeUs } from "../codec/moments.ts";
import { bytes } from "../codec/scalars.ts";
import { parsePosition } from "../log/position.ts";
import type { Selection } from "../replay/selection.ts";

/** What the options below give. */
export interface SelectionOptions {
  readonly map?: number;
  readonly session?: number;
  readonly caller?: string;
  readonly cmd?: number;
  readonly errno?: number;
  readonly changes?: true;
  readonly failed?: true;
  readonly key?: Buffer;
  readonly since?: number;
  readonly until?: number;
  readonly after?: Place;
  readonly before?: Place;
}

/** A seq, or the position that it stands in. */
interface Place {
  readonly seq: number;
  readonly position: string | null;
}

/** The filters of GET /v1/events. */
export function addSelectionOptions(command: Command): Command {
  return command
    .addOption(new Option("--map <id>", "commands on this map").argParser(integer))
    .addOption(new Option("--session <id>", "of this session; 0: of none").argParser(integer))
    .addOption(new Option("--caller <name>", "sent by this caller"))
    .addOption(new Option("--cmd <cmd>", "of this name or number").argParser(named(CMD)))
    .addOption(new Option("--errno <errno>", "refused with it; 0: those that succeeded").argParser(named(ERRNO)))
    .addOption(new Option("--changes", "that changed a map, an element, a pin or a directory"))
    .addOption(new Option("--failed", "that were refused, with whatever errno"))
    .addOption(new Option("--key <hex>", "whose key begins so; of a batch, any key").argParser(read(bytes)))
    .addOption(new Option("--since <time>", "from this moment on, RFC 3339").argParser(read(readTimeUs)))
    .addOption(new Option("--until <time>", "up to this moment").argParser(read(readTimeUs)))
    .addOption(new Option("--after <seq>", "behind this event, or a position in the log").argParser(place))
    .addOption(new Option("--before <seq>", "in front of this event, or a position").argParser(place));
}

export function selectionOf({ since, until, after, before, changes, ...fields }: SelectionOptions): Selection {
  return {
    ...fields,
    ...(changes !== undefined && { changed: changes }),
    ...(since !== undefined && { sinceUs: since }),
    ...(until !== undefined && { untilUs: until }),
    ...(after !== undefined && { afterSeq: after.seq }),
    ...(before !== undefined && { beforeSeq: before.seq }),
  };
}

/** The positions among the options, for the log that has given them out. */
export function positionsIn({ after, before }: SelectionOptions): string[] {
  return [after, before].flatMap((place) => place?.position ?? []);
}

function place(text: string): Place {
  const position = parsePosition(text);
  if (position === null) return { seq: integer(text), position: null };
  if (position.place !== "at") throw new InvalidArgumentError("an event's position is needed, or a page's.");
  return { seq: position.seq, position: text };
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
