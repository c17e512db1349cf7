import { join } from "node:path";
import { usableSnapshot } from "../archive/restore.ts";
import type { Snapshot } from "../archive/snapshot.ts";
import { ARCHIVE_FOLDER } from "../data/layout.ts";
import type { Archived } from "../engine/archives.ts";
import { LAYOUT } from "../lmdb/store.ts";

/** A data directory that is verified, and where its archive is looked for first; null: nowhere else. */
export interface Places {
  readonly data: string;
  readonly archive: string | null;
}

/** Where archived events may lie. */
export function archivePlaces({ data, archive }: Places, { directory }: Pick<Archived, "directory">): string[] {
  return [...new Set([...(archive === null ? [] : [archive]), directory, join(data, ARCHIVE_FOLDER)])];
}

/** Where the snapshot behind archived events may lie, and the events themselves. */
export function archiveFolders(places: Places, archived: Archived): string[] {
  return [places.data, ...archivePlaces(places, archived)];
}

/** The state right after the last archived event. Its cells must be read to their end. Throws an Error that says why there is none. */
export async function archivedState(places: Places, log: string, archived: Archived): Promise<Snapshot> {
  const reasons: string[] = [];
  for (const folder of archiveFolders(places, archived)) {
    const snapshot = await usableSnapshot(folder, { archived, log, layout: LAYOUT });
    if (typeof snapshot !== "string") return snapshot;
    reasons.push(snapshot);
  }
  throw new Error(`events up to ${archived.through} are archived, and ${reasons.join("; ")}`);
}
