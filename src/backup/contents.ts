import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { archiveFiles, isArchiveFile } from "../archive/archive.ts";
import { readName } from "../archive/names.ts";
import { ARCHIVE_FOLDER, KEY_FILE, LOG_FILE, NEXT_KEY_FILE, TREE_FILE } from "../data/layout.ts";

/** A file of a data directory that cannot be made again from the rest. */
export interface Kept {
  /** Within the data directory. */
  readonly name: string;
  readonly is: "file" | "database";
}

const LOG: Kept = { name: LOG_FILE, is: "database" };
const FOLLOWERS: readonly Kept[] = [
  { name: KEY_FILE, is: "file" },
  { name: NEXT_KEY_FILE, is: "file" },
  { name: TREE_FILE, is: "database" },
];

/**
 * What is to be taken along, in this order: what follows the log before it, so that nothing in a backup is ahead of its
 * log; what the log refers to after it, so that it is there. Snapshots are asked for twice: a later one may replace them meanwhile.
 */
export function* keptFiles(data: string): Iterable<Kept> {
  for (const kept of FOLLOWERS) if (existsSync(join(data, kept.name))) yield kept;
  yield* snapshots(data);
  yield LOG;
  yield* snapshots(data);
  for (const name of archiveFiles(join(data, ARCHIVE_FOLDER))) yield { name: `${ARCHIVE_FOLDER}/${name}`, is: "file" };
}

/** Names are those of a backup's files alone: none leads elsewhere. */
export function isKept(name: string): boolean {
  if (name.startsWith(`${ARCHIVE_FOLDER}/`)) return isArchiveFile(name.slice(ARCHIVE_FOLDER.length + 1));
  return name === LOG_FILE || FOLLOWERS.some((kept) => kept.name === name) || isSnapshot(name);
}

function snapshots(data: string): Kept[] {
  return readdirSync(data)
    .filter(isSnapshot)
    .map((name) => ({ name, is: "file" }));
}

function isSnapshot(name: string): boolean {
  return readName(name)?.is === "state";
}
