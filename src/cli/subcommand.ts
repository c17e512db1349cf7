import type { Command } from "commander";

/** Adds itself to the program: its words, its options, what it does. Throws an Error that says why, if it cannot. */
export type Subcommand = (program: Command) => void;

export const EXIT = { found: 1, failed: 1, usage: 2 } as const;
