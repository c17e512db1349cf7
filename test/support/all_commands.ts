import type { Command } from "../../src/cli/bpftool/description.ts";
import { ALONE, GROUPS } from "../../src/cli/bpftool/tree.ts";

/** All commands in bpftool's words, by their words. */
export const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ...ALONE.map((command): [string, Command] => [command.word, command]),
  ...GROUPS.flatMap(({ word, commands }) =>
    commands.map((command): [string, Command] => [`${word} ${command.word}`, command]),
  ),
]);
