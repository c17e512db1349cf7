/**
 * Archives events of a data directory's log: the job of a running service's thread (`runArchive`), and the whole job if
 * the service is stopped (`archiveStopped`). `archive/make.ts` has the order of its steps.
 */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { CMD } from "../abi/service.ts";
import { removeSnapshots } from "../archive/archive.ts";
import { type ArchiveProgress, prepareArchive, SEGMENT_EVENTS } from "../archive/make.ts";
import { restoreArchived, usableSnapshot } from "../archive/restore.ts";
import type { Snapshot } from "../archive/snapshot.ts";
import { readMoment } from "../codec/moments.ts";
import { type ArchiveAttr, type ArchivePlan, type ArchiveSource, planArchive } from "../engine/archives.ts";
import type { StateStore } from "../engine/ports.ts";
import { emptyFolder } from "../files/contents.ts";
import { readHost } from "../host.ts";
import { LAYOUT } from "../lmdb/marker.ts";
import { LmdbStore } from "../lmdb/store.ts";
import type { Host } from "../maps/map.ts";
import { SqliteArchiveSource } from "../sqlite/archive_source.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { ARCHIVE_FOLDER, ARCHIVING_FOLDER, archiveFolder, LOG_FILE, TREE_FILE } from "./layout.ts";
import { openTree } from "./open_tree.ts";
import { StoppedLog } from "./stopped_log.ts";

/** The events to archive, and the folder that they go to. */
export interface ArchiveJob {
  readonly data: string;
  /** The archive's folder; "": archive/ in the data directory. */
  readonly directory: string;
  /** Archive the events before this seq, or before this time in RFC 3339. */
  readonly before: string;
}

export interface ArchiveOptions {
  /** The number of events that the log's tree has. Later events are not archived. */
  readonly treeSize: number;
  /** Called with the range of events before any is written. */
  readonly planned?: (plan: ArchivePlan) => void;
  /** The most events that a segment has. */
  readonly segmentEvents?: number;
}

/** Rows of archived events that one transaction removes from the log. */
const DELETE_EVENTS = 10_000;

/**
 * Writes the archive's files for a log that may be in use. Returns the attr of the ARCHIVE event, which the caller must
 * append. Throws InvalidInput, ArchiveRefused, or an Error if the disk or the log fails.
 */
export async function runArchive(
  { data, directory, before }: ArchiveJob,
  { treeSize, planned, segmentEvents = SEGMENT_EVENTS }: ArchiveOptions,
  progress: (progress: ArchiveProgress) => void,
): Promise<ArchiveAttr> {
  const moment = readMoment(before, "before");
  const source = new SqliteArchiveSource(join(data, LOG_FILE));
  const scratch = join(data, ARCHIVING_FOLDER);
  emptyFolder(scratch);
  let store: LmdbStore | null = null;
  let tree: TreeFile | null = null;
  try {
    const plan = planArchive(source, moment, treeSize);
    planned?.(plan);
    store = new LmdbStore(scratch, source.id);
    const tiles = new TreeFile(join(data, TREE_FILE));
    tree = tiles;
    const parts = {
      source,
      data,
      folder: archiveFolder({ data, directory }),
      host: { ...readHost(), possibleCpus: source.possibleCpus },
      layout: LAYOUT,
      tiles: (level: number, index: number) => tiles.tile(level, index),
      store,
      segmentEvents,
      progress,
    };
    return await prepareArchive(parts, plan, before);
  } finally {
    await store?.close();
    tree?.close();
    source.close();
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * Archives events of a stopped service's log, from the files to the removal of rows, after it has brought the tree to
 * the log's end. Throws as runArchive does, and an Error if the directory is in use or is not a data directory, or if
 * the log differs from its tree.
 */
export async function archiveStopped(
  job: ArchiveJob,
  progress: (progress: ArchiveProgress) => void,
): Promise<ArchiveAttr> {
  const stopped = StoppedLog.open(job.data);
  const { log } = stopped;
  const tree = openTree(job.data, "");
  let appended = false;
  try {
    while (log.deleteArchived(DELETE_EVENTS));
    while (tree.catchUp());
    if (tree.refusal !== null) throw new Error(`the log differs from its tree: ${tree.refusal}`);
    const attr = await runArchive(job, { treeSize: tree.size }, progress);
    stopped.append({ cmd: CMD.ARCHIVE, attr });
    appended = true;
    tree.catchUp();
    while (log.deleteArchived(DELETE_EVENTS));
    removeSnapshots(job.data, attr.through);
    return attr;
  } finally {
    // If no event was appended, the closing mark stays as it was.
    tree.close(appended && tree.size === log.lastSeq);
    stopped.close();
  }
}

/**
 * The snapshot right after the last archived event. The caller must iterate its cells to the end, which closes the
 * file. Throws an Error with each folder's reason if there is none.
 */
export async function snapshotOf(log: Pick<ArchiveSource, "id" | "archived">, data: string): Promise<Snapshot> {
  const reasons: string[] = [];
  for (const folder of foldersOf(log, data)) {
    const snapshot = await usableSnapshot(folder, { archived: log.archived, log: log.id, layout: LAYOUT });
    if (typeof snapshot !== "string") return snapshot;
    reasons.push(snapshot);
  }
  throw new Error(`events up to ${log.archived.through} are archived, and ${reasons.join("; ")}`);
}

/** Folders in which snapshots and segments may be, in the order in which to try them. */
function foldersOf({ archived }: Pick<ArchiveSource, "archived">, data: string): string[] {
  return [...new Set([data, archived.directory, join(data, ARCHIVE_FOLDER)])];
}

/**
 * Brings an empty store to the end of a log's archived events. Throws an Error with the reasons if neither snapshot nor
 * archive can be used.
 */
export function restoreFromArchive(
  store: StateStore,
  log: Pick<ArchiveSource, "id" | "archived">,
  { data, host }: { data: string; host: Host },
): Promise<void> {
  const { id, archived } = log;
  return restoreArchived(store, { archived, log: id, folders: foldersOf(log, data), host, layout: LAYOUT });
}
