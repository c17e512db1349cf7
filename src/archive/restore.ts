/**
 * Restores the state at the end of a log's archived events. The state, the history (past/versions_store.ts) and the
 * index (EventIndex.begin) begin there, and then take in the rest of the log.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Archived } from "../engine/archives.ts";
import type { StateStore } from "../engine/ports.ts";
import { sha256Of } from "../files/contents.ts";
import type { Host } from "../maps/map.ts";
import { Archive } from "./archive.ts";
import { fold, load } from "./fold.ts";
import { stateName } from "./names.ts";
import { readSnapshot, type Snapshot } from "./snapshot.ts";

export interface ArchivedState {
  readonly archived: Archived;
  readonly log: string;
  /** Folders to look in for a snapshot and an archive, in this order; the data directory comes first. */
  readonly folders: readonly string[];
  readonly host: Host;
  /**
   * The layout of cells that the store needs. A snapshot of another layout can be used only if AS_THEY_ARE lists it.
   */
  readonly layout: number;
}

/**
 * Brings an empty store to the end of the archived events: it loads their snapshot, or, if no folder has a usable one,
 * applies the archive's events. Throws an Error with each folder's reason if neither can be used.
 */
export async function restoreArchived(store: StateStore, state: ArchivedState): Promise<void> {
  const reasons: string[] = [];
  for (const folder of state.folders) {
    const snapshot = await usableSnapshot(folder, state);
    if (typeof snapshot !== "string") return load(store, snapshot);
    reasons.push(snapshot);
  }
  for (const folder of state.folders) {
    const archive = usableArchive(folder, state);
    if (typeof archive !== "string") {
      await fold(store, state.host, archive.rows(0, state.archived.through));
      return;
    }
    reasons.push(archive);
  }
  throw new Error(
    `events 1 to ${state.archived.through} are archived, and neither their snapshot nor the archive can be used: ${reasons.join("; ")}`,
  );
}

/** The snapshot at the end of a log's archived events, or the reason why a folder's snapshot cannot be used. */
export async function usableSnapshot(
  folder: string,
  { archived, log, layout }: Omit<ArchivedState, "folders" | "host">,
): Promise<Snapshot | string> {
  const file = join(folder, stateName(archived.through));
  if (!existsSync(file)) return `${file} does not exist`;
  if ((await sha256Of(file)) !== archived.state) return `${file} does not match its recorded SHA-256`;
  const snapshot = await readSnapshot(file);
  if (snapshot.head.log !== log) return `${file} belongs to log ${snapshot.head.log}`;
  if (!isOf(snapshot.head.layout, layout)) return `${file} has layout ${snapshot.head.layout}, not ${layout}`;
  return snapshot;
}

/**
 * Earlier layouts of snapshots that are loaded unchanged. Layout 5 records no creators, layout 6 those of maps and
 * objects only, and up to layout 7 written elements of arrays are not counted.
 */
const AS_THEY_ARE: ReadonlyMap<number, readonly number[]> = new Map([[8, [5, 6, 7]]]);

function isOf(found: number, layout: number): boolean {
  return found === layout || (AS_THEY_ARE.get(layout) ?? []).includes(found);
}

function usableArchive(folder: string, { archived, log }: ArchivedState): Archive | string {
  try {
    const archive = new Archive(folder);
    if (archive.log !== log) return `${folder} is the archive of log ${archive.log}`;
    if (archive.oldestSeq !== 1 || archive.lastSeq < archived.through)
      return `${folder} has only events ${archive.oldestSeq} to ${archive.lastSeq}`;
    return archive;
  } catch (error) {
    return (error as Error).message;
  }
}
