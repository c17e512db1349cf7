/**
 * The closing mark, `closed` in `tree.sqlite`. A service that stops in order records in its tree how many events the
 * log has. Whoever takes up the log next (the engine's thread, or an order of the command line) reports events that
 * were added meanwhile, and removes the mark, durably, before its own first event. If a log has more events than its
 * mark says, another program has written them.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { SqliteTreeStore, TreeFile } from "../sqlite/tree_store.ts";
import { addedSince } from "../tree/log_tree.ts";
import { TREE_FILE } from "./layout.ts";

/** An open log, before this process writes to it. */
interface FoundLog {
  readonly id: string;
  readonly lastSeq: number;
}

/**
 * A text about events that were added to a log after its service closed it, by a program that is not mapledger; null if
 * there are none, or if nothing is known.
 */
export function addedTo(data: string, { id, lastSeq }: FoundLog): string | null {
  return addedSince(closedAt(data, id), lastSeq);
}

/**
 * Removes the closing mark, durably, so that the events that the caller is about to write do not count as added from
 * outside. A tree that cannot be read, or belongs to another log, stays as it is.
 */
export function takeUp(data: string, id: string): void {
  if (closedAt(data, id) === null) return;
  const store = new SqliteTreeStore(join(data, TREE_FILE));
  try {
    store.setClosed(null);
  } finally {
    store.close();
  }
}

function closedAt(data: string, id: string): number | null {
  const file = join(data, TREE_FILE);
  if (!existsSync(file)) return null;
  try {
    const tree = new TreeFile(file);
    try {
      return tree.identity?.log === id ? tree.closedAt : null;
    } finally {
      tree.close();
    }
  } catch {
    return null;
  }
}
