import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { CMD } from "../abi/service.ts";
import { type ArchiveProgress, prepareArchive, removeSnapshots, SEGMENT_EVENTS } from "../archive/make.ts";
import { restoreArchived, usableSnapshot } from "../archive/restore.ts";
import type { Snapshot } from "../archive/snapshot.ts";
import { readMoment } from "../codec/moments.ts";
import { type ArchiveAttr, type ArchivePlan, type ArchiveSource, planArchive } from "../engine/archives.ts";
import type { StateStore } from "../engine/ports.ts";
import { readHost } from "../host.ts";
import { discard, LAYOUT, LmdbStore } from "../lmdb/store.ts";
import type { Host } from "../maps/map.ts";
import { SqliteArchiveSource } from "../sqlite/archive_source.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { ARCHIVE_FOLDER, ARCHIVING_FOLDER, LOG_FILE, TREE_FILE } from "./layout.ts";
import { openTree } from "./open_tree.ts";
import { StoppedLog } from "./stopped_log.ts";

/** What is to be archived, and where to. */
export interface ArchiveJob {
  readonly data: string;
  /** The archive's folder; empty: archive/ in the data directory. */
  readonly directory: string;
  /** A seq or a time. */
  readonly before: string;
}

/** How it is done. */
export interface ArchiveOptions {
  /** Events that the log's tree has: others stay. */
  readonly treeSize: number;
  /** Told which events it will be about. */
  readonly planned?: (plan: ArchivePlan) => void;
  /** Events in a segment, at most. */
  readonly segmentEvents?: number;
}

/** Events that go from the log in one transaction. */
const DELETE_EVENTS = 10_000;

/**
 * Prepares an archive of a log that may be in use: answers what the ARCHIVE event is to say. Throws InvalidInput,
 * ArchiveRefused, or an Error where the disk or the log fails.
 */
export async function runArchive(
  { data, directory, before }: ArchiveJob,
  { treeSize, planned, segmentEvents = SEGMENT_EVENTS }: ArchiveOptions,
  progress: (progress: ArchiveProgress) => void,
): Promise<ArchiveAttr> {
  const moment = readMoment(before, "before");
  const source = new SqliteArchiveSource(join(data, LOG_FILE));
  const scratch = join(data, ARCHIVING_FOLDER);
  discard(scratch);
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
 * Archives events of a log whose service is stopped, and brings its tree along. Throws as runArchive does, and an Error
 * where the data directory is in use or none, or the log is not what its tree has.
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
    if (tree.refusal !== null) throw new Error(`the log is not what its tree has: ${tree.refusal}`);
    const attr = await runArchive(job, { treeSize: tree.size }, progress);
    stopped.append({ cmd: CMD.ARCHIVE, attr });
    appended = true;
    tree.catchUp();
    while (log.deleteArchived(DELETE_EVENTS));
    removeSnapshots(job.data, attr.through);
    return attr;
  } finally {
    // Otherwise it is closed where it was.
    tree.close(appended && tree.size === log.lastSeq);
    stopped.close();
  }
}

/** The state right after the last archived event. Its cells must be read to their end. Throws an Error that says why there is none. */
export async function snapshotOf(log: Pick<ArchiveSource, "id" | "archived">, data: string): Promise<Snapshot> {
  const reasons: string[] = [];
  for (const folder of foldersOf(log, data)) {
    const snapshot = await usableSnapshot(folder, { archived: log.archived, log: log.id, layout: LAYOUT });
    if (typeof snapshot !== "string") return snapshot;
    reasons.push(snapshot);
  }
  throw new Error(`events up to ${log.archived.through} are archived, and ${reasons.join("; ")}`);
}

/** The folder of an archive, absolute. */
export function archiveFolder({ data, directory }: Pick<ArchiveJob, "data" | "directory">): string {
  return resolve(directory === "" ? join(data, ARCHIVE_FOLDER) : directory);
}

/** Where snapshots and segments may lie. */
function foldersOf({ archived }: Pick<ArchiveSource, "archived">, data: string): string[] {
  return [...new Set([data, archived.directory, join(data, ARCHIVE_FOLDER)])];
}

/** Brings an empty store to where a log's archived events end. Throws an Error that says what is missing for that. */
export function restoreFromArchive(
  store: StateStore,
  log: Pick<ArchiveSource, "id" | "archived">,
  { data, host }: { data: string; host: Host },
): Promise<void> {
  const { id, archived } = log;
  return restoreArchived(store, { archived, log: id, folders: foldersOf(log, data), host, layout: LAYOUT });
}
