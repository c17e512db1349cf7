import type { Command } from "commander";

/**
 * Adds a subcommand to the program: its name, options and action. The action throws an Error with the reason if it
 * fails.
 */
export type Subcommand = (program: Command) => void;

export const EXIT = { found: 1, failed: 1, usage: 2 } as const;
