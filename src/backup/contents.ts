/** The files that a backup contains, and the order in which they are copied. */

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { archiveFiles, isArchiveFile } from "../archive/archive.ts";
import { readName } from "../archive/names.ts";
import { ARCHIVE_FOLDER, KEY_FILE, LOG_FILE, NEXT_KEY_FILE, TREE_FILE } from "../data/layout.ts";

/** A file of a data directory that cannot be derived from the other files. */
export interface Kept {
  /** Relative to the data directory. */
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
 * The files of a backup, in the order of copying. Files that follow the log (its key, its tree) are copied before it,
 * so that none of them is ahead of the log's copy. Files that the log refers to (snapshots, the archive) are copied
 * after it, so that they exist. Snapshots are listed before the log as well, because a job of the service may replace
 * one while the log is copied.
 */
export function* keptFiles(data: string): Iterable<Kept> {
  for (const kept of FOLLOWERS) if (existsSync(join(data, kept.name))) yield kept;
  yield* snapshots(data);
  yield LOG;
  yield* snapshots(data);
  for (const name of archiveFiles(join(data, ARCHIVE_FOLDER))) yield { name: `${ARCHIVE_FOLDER}/${name}`, is: "file" };
}

/**
 * Whether a name from a manifest is that of a backup's file. Any other name, for example one with `..`, is refused.
 */
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
