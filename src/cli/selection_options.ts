import { type Command, InvalidArgumentError, Option } from "commander";
import { ERRNO } from "../abi/errno.ts";
import { CMD } from "../abi/service.ts";
import { InvalidInput } from "../codec/invalid.ts";
import { readTimeUs } from "../codec/moments.ts";
import { bytes } from "../codec/scalars.ts";
import { parsePosition } from "../log/position.ts";
import type { Selection } from "../replay/selection.ts";

/** The parsed options of addSelectionOptions. */
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

/** A seq, and the position that it was given as; null: it was given as a number. */
interface Place {
  readonly seq: number;
  readonly position: string | null;
}

/** Adds the filters of GET /v1/events as options. */
export function addSelectionOptions(command: Command): Command {
  return command
    .addOption(new Option("--map <id>", "select commands on this map").argParser(integer))
    .addOption(
      new Option("--session <id>", "commands of this session; 0: commands without a session").argParser(integer),
    )
    .addOption(new Option("--caller <name>", "commands of this caller"))
    .addOption(new Option("--cmd <cmd>", "commands with this name or number").argParser(named(CMD)))
    .addOption(
      new Option("--errno <errno>", "commands that failed with this errno; 0: commands that succeeded").argParser(
        named(ERRNO),
      ),
    )
    .addOption(new Option("--changes", "commands that changed a map, an element, a pin or a directory"))
    .addOption(new Option("--failed", "commands that failed with any errno"))
    .addOption(
      new Option("--key <hex>", "commands whose key has this prefix; of a batch, if any of its keys has it").argParser(
        read(bytes),
      ),
    )
    .addOption(new Option("--since <time>", "commands at or after this moment (RFC 3339)").argParser(read(readTimeUs)))
    .addOption(new Option("--until <time>", "commands at or before this moment").argParser(read(readTimeUs)))
    .addOption(
      new Option("--after <seq>", "commands after this event, or after a position in the log").argParser(place),
    )
    .addOption(new Option("--before <seq>", "commands before this event or position").argParser(place));
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

/** The positions among the options. They must be checked against the log that gave them out. */
export function positionsIn({ after, before }: SelectionOptions): string[] {
  return [after, before].flatMap((place) => place?.position ?? []);
}

function place(text: string): Place {
  const position = parsePosition(text);
  if (position === null) return { seq: integer(text), position: null };
  if (position.place !== "at") throw new InvalidArgumentError("the position of an event or of a page is needed.");
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
