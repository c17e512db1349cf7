import { join } from "node:path";
import { usableSnapshot } from "../archive/restore.ts";
import type { Snapshot } from "../archive/snapshot.ts";
import { ARCHIVE_FOLDER } from "../data/layout.ts";
import type { Archived } from "../engine/archives.ts";
import { LAYOUT } from "../lmdb/marker.ts";

/** A data directory to verify, and the folder of an archive to try first; null: no such folder. */
export interface Places {
  readonly data: string;
  readonly archive: string | null;
}

/** Folders in which the archived events may be, the first to try first. */
export function archivePlaces({ data, archive }: Places, { directory }: Pick<Archived, "directory">): string[] {
  return [...new Set([...(archive === null ? [] : [archive]), directory, join(data, ARCHIVE_FOLDER)])];
}

/** Folders in which the snapshot at the end of the archived events, or the events themselves, may be. */
export function archiveFolders(places: Places, archived: Archived): string[] {
  return [places.data, ...archivePlaces(places, archived)];
}

/**
 * The snapshot right after the last archived event. The caller must iterate its cells to the end, which closes the
 * file. Throws an Error with each folder's reason if there is none.
 */
export async function archivedState(places: Places, log: string, archived: Archived): Promise<Snapshot> {
  const reasons: string[] = [];
  for (const folder of archiveFolders(places, archived)) {
    const snapshot = await usableSnapshot(folder, { archived, log, layout: LAYOUT });
    if (typeof snapshot !== "string") return snapshot;
    reasons.push(snapshot);
  }
  throw new Error(`events up to ${archived.through} are archived, and ${reasons.join("; ")}`);
}
