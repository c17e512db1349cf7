/**
 * What of a data directory cannot be made again from the rest, in the order in which a backup takes it: what follows the
 * log stands before it, so that nothing in a backup is ahead of its log.
 */
export const KEPT: readonly Kept[] = [
  { name: "log.key", is: "file" },
  { name: "tree.sqlite", is: "database" },
  { name: "events.sqlite", is: "database" },
];

export interface Kept {
  readonly name: string;
  readonly is: "file" | "database";
}

/** The log's own file; every backup has it. */
export const LOG_FILE = "events.sqlite";
