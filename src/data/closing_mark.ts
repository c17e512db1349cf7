import { existsSync } from "node:fs";
import { join } from "node:path";
import { SqliteTreeStore, TreeFile } from "../sqlite/tree_store.ts";
import { addedSince } from "../tree/log_tree.ts";
import { TREE_FILE } from "./layout.ts";

/** A log that is held, before anything is written to it. */
interface FoundLog {
  readonly id: string;
  readonly lastSeq: number;
}

/** What came into a log since its tree was closed with all of it, which no service has written; null: nothing that is known of. */
export function addedTo(data: string, { id, lastSeq }: FoundLog): string | null {
  return addedSince(closedAt(data, id), lastSeq);
}

/**
 * From here on events are those of who holds the log: the tree is not closed any more, and that has reached the disk before the
 * first of them can. A tree that cannot be read, or is another log's, stays as it is.
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
