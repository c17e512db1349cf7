/** The help about commands, made of the tree. */

import { argumentsText, type Command } from "./description.ts";
import { OPTIONS } from "./options.ts";
import type { Group } from "./tree.ts";

const PROGRAM = "mapledger";
const WIDTH = 100;

export const LEGEND: readonly (readonly [name: string, means: string])[] = [
  ["MAP", "{ id MAP_ID | name MAP_NAME | pinned FILE }"],
  ["DATA", "{ [hex] BYTES }: a word for each byte of the key or value, as 10, 0x0a or 012; after hex, 0a"],
  ["VALUE", "{ DATA | MAP | PROG }"],
  ["PROG", "{ id PROG_ID | pinned FILE }"],
  ["UPDATE_FLAGS", "{ any | exist | noexist }"],
  ["MOMENT", "an event's seq, or a time (RFC 3339)"],
  ["POSITION", "an event's seq, or a position that an answer has given"],
];

export function usageOf(group: Group | null, command: Command): string {
  const words = [group?.word, command.word, argumentsText(command.arguments)].filter(
    (part) => part !== undefined && part !== "",
  );
  return `${PROGRAM} ${words.join(" ")}`;
}

/** The usage of all commands of a group, as bpftool shows it if a word is wrong. */
export function groupHelp(group: Group): string {
  const { commands } = group;
  const lines = commands.map((command) => `  ${usageOf(group, command)}`);
  return `${group.text}\n\nUsage:\n${lines.join("\n")}\n\n${legendText(commands)}${optionsText()}\nHelp about one: ${PROGRAM} ${group.word} COMMAND --help. All of it: ${PROGRAM} man | man -l -\n`;
}

export function commandHelp(group: Group | null, command: Command): string {
  const examples = command.examples.map(([words, does]) => `  ${PROGRAM} ${words}\n      ${does}\n`);
  const shown = examples.length === 0 ? "" : `\nExamples:\n${examples.join("")}`;
  return `Usage: ${usageOf(group, command)}\n\n${wrapped(command.text, "")}\n\n${legendText([command])}${optionsText()}${shown}`;
}

/** The arguments' names that the usage of these commands has. */
function legendText(commands: readonly Command[]): string {
  const used = new Set(commands.flatMap(({ arguments: all }) => all.map(({ value }) => value)));
  if (used.has("VALUE")) for (const name of ["DATA", "MAP", "PROG"]) used.add(name);
  const rows = LEGEND.filter(([name]) => used.has(name)).map(([name, means]) => `  ${name} := ${means}\n`);
  return rows.length === 0 ? "" : `${rows.join("")}\n`;
}

function optionsText(): string {
  return `Options:\n${OPTIONS.map((row) => `  ${optionText(row).padEnd(22)} ${row.text}\n`).join("")}`;
}

/** "-j, --json", "--at SEQ|TIME" */
export function optionText({
  short,
  long,
  value,
}: {
  short: string | null;
  long: string;
  value: string | null;
}): string {
  return `${short === null ? "" : `-${short}, `}--${long}${value === null ? "" : ` ${value}`}`;
}

function wrapped(text: string, indent: string): string {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(" ")) {
    if (line.length > indent.length && line.length + word.length + 1 > WIDTH) {
      lines.push(line);
      line = indent;
    }
    line += line === indent ? word : ` ${word}`;
  }
  return [...lines, line].join("\n");
}
