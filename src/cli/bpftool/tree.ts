/**
 * The commands in bpftool's words: their arguments, help and examples. The parser, the help, the completion and the man
 * page are made from this tree; `actions.ts` has what each does.
 */

import { type Command, needed } from "./description.ts";
import { EVENT_COMMANDS } from "./event_commands.ts";
import { MAP_COMMANDS } from "./map_commands.ts";
import { SESSION_COMMANDS } from "./session_commands.ts";

export interface Group {
  readonly word: "map" | "event" | "session";
  readonly text: string;
  readonly commands: readonly Command[];
}

export const GROUPS: readonly Group[] = [
  { word: "map", text: "Commands for maps and their elements, in bpftool's words.", commands: MAP_COMMANDS },
  { word: "event", text: "The log: events that were recorded, and those that are.", commands: EVENT_COMMANDS },
  {
    word: "session",
    text: "Sessions, which stand for processes and hold maps by descriptors.",
    commands: SESSION_COMMANDS,
  },
];

/** Commands of one word. */
export const ALONE = [
  {
    word: "batch",
    arguments: [needed("file", "FILE")],
    text: "Runs the commands of a file, one a line, until one fails; - is standard input. # begins a comment, \\ at the end of a line continues it, and quotes hold a word with blanks together.",
    examples: [
      ["batch file commands", "runs the lines of the file, such as: map update name ports key 1 0 0 0 value 1 0 0 0"],
    ],
    reads: true,
  },
  {
    word: "version",
    arguments: [],
    text: "Prints the version.",
    examples: [],
    reads: false,
  },
  {
    word: "completion",
    arguments: [needed(null, "SHELL", ["bash", "zsh", "fish"])],
    text: "Prints a script that completes words, names of maps included, in bash, zsh or fish.",
    examples: [
      ["completion bash > /etc/bash_completion.d/mapledger", "for all users of bash"],
      ["completion zsh > ~/.zfunc/_mapledger", "for zsh, if its fpath has ~/.zfunc"],
      ["completion fish > ~/.config/fish/completions/mapledger.fish", "for fish"],
    ],
    reads: false,
  },
  {
    word: "man",
    arguments: [],
    text: "Prints the man page, in roff.",
    examples: [["man | man -l -", "shows it"]],
    reads: false,
  },
] as const satisfies readonly Command[];

/** The first whose word begins so. */
export function selected<Item extends { readonly word: string }>(all: readonly Item[], word: string): Item | undefined {
  return all.find((item) => item.word.startsWith(word));
}
