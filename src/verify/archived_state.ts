import { join } from "node:path";
import { ARCHIVE_FOLDER } from "../archive/archive.ts";
import { usableSnapshot } from "../archive/restore.ts";
import type { Snapshot } from "../archive/snapshot.ts";
import type { Archived } from "../engine/archives.ts";
import { LAYOUT } from "../lmdb/store.ts";

/** Where the snapshot behind archived events may lie, and the events themselves. */
export function archiveFolders(data: string, archived: Archived): string[] {
  return [data, archived.directory, join(data, ARCHIVE_FOLDER)];
}

/** The state right after the last archived event. Its cells must be read to their end. Throws an Error that says why there is none. */
export async function archivedState(data: string, log: string, archived: Archived): Promise<Snapshot> {
  const reasons: string[] = [];
  for (const folder of archiveFolders(data, archived)) {
    const snapshot = await usableSnapshot(folder, { archived, log, layout: LAYOUT });
    if (typeof snapshot !== "string") return snapshot;
    reasons.push(snapshot);
  }
  throw new Error(`events up to ${archived.through} are archived, and ${reasons.join("; ")}`);
}
