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

/** What is needed to make the state of archived events again. */
export interface ArchivedState {
  readonly archived: Archived;
  /** The log's id. */
  readonly log: string;
  /** Folders in which a snapshot or the archive may lie: the data directory first. */
  readonly folders: readonly string[];
  readonly host: Host;
  /** How cells are laid out: a snapshot of another layout is of no use, but for those of AS_THEY_ARE. */
  readonly layout: number;
}

/**
 * Brings an empty store to where the archived events end: from their snapshot, or else by doing again what the archive
 * says. Throws an Error that says what is missing.
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
    `events 1 to ${state.archived.through} are archived, and neither their snapshot nor they can be used: ${reasons.join("; ")}`,
  );
}

/** The snapshot at a log's archived events, for whoever needs its cells; or why there is none. */
export async function usableSnapshot(
  folder: string,
  { archived, log, layout }: Omit<ArchivedState, "folders" | "host">,
): Promise<Snapshot | string> {
  const file = join(folder, stateName(archived.through));
  if (!existsSync(file)) return `${file} is not there`;
  if ((await sha256Of(file)) !== archived.state) return `${file} has another SHA-256 than it had`;
  const snapshot = await readSnapshot(file);
  if (snapshot.head.log !== log) return `${file} is of log ${snapshot.head.log}`;
  if (!isOf(snapshot.head.layout, layout)) return `${file} has layout ${snapshot.head.layout}, not ${layout}`;
  return snapshot;
}

/**
 * Earlier layouts of snapshots that can be taken up as they are: in 5 no map and no object tells its creator, up to 6 no pin and no
 * directory, and up to 7 the elements of arrays that were written are not counted.
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
      return `${folder} has events ${archive.oldestSeq} to ${archive.lastSeq} only`;
    return archive;
  } catch (error) {
    return (error as Error).message;
  }
}
