/**
 * Writes events into an archive, with a snapshot of the state after them, and proves both by reading them back. A job's
 * steps, each durable before the next:
 *
 * 1. Segments are written and read back; each event is compared with the log's, and applied to the previous snapshot.
 * 2. The resulting snapshot is written, compared, and copied to the data directory.
 * 3. SHA256SUMS lists the new files.
 * 4. The engine appends the ARCHIVE event, whose attr `prepareArchive` returns, with the ledger's fact `archived`, in
 *    one transaction. From then on the log begins after the last archived event.
 * 5. Rows are removed, some at a time between batches; a start goes on with it.
 *
 * Before step 4, the tree, the history and the index have taken in all of these events. A job that dies before step 4
 * leaves files beyond the fact, which the next job removes.
 */

import { hash } from "node:crypto";
import { existsSync, linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ArchiveAttr, type ArchivePlan, ArchiveRefused, type ArchiveSource } from "../engine/archives.ts";
import type { StateStore } from "../engine/ports.ts";
import { copyContents, sha256Of, sync } from "../files/contents.ts";
import type { EventRow } from "../log/event.ts";
import type { Host } from "../maps/map.ts";
import { Archive, archivedLog, markArchive } from "./archive.ts";
import { eventLine } from "./event_line.ts";
import { fold } from "./fold.ts";
import { eventsName, readName, stateName } from "./names.ts";
import { restoreArchived } from "./restore.ts";
import { readSegment, type Segment, segmentBytes } from "./segment.ts";
import { readSnapshot, type SnapshotHead, writeSnapshot } from "./snapshot.ts";
import { readSums, writeSums } from "./sums.ts";
import { type TileSource, writeTiles } from "./tiles.ts";

/** Everything that an archive job uses. */
export interface ArchiveParts {
  readonly source: ArchiveSource;
  /** The data directory; it gets a copy of the snapshot. */
  readonly data: string;
  /** The archive's folder, as an absolute path. */
  readonly folder: string;
  readonly host: Host;
  readonly layout: number;
  /** The log's tree; it covers all events that are to be archived. */
  readonly tiles: TileSource;
  /** An empty store, in which the snapshot's state is built. */
  readonly store: StateStore;
  /** The most events that a segment has. */
  readonly segmentEvents: number;
  readonly progress: (progress: ArchiveProgress) => void;
}

export interface ArchiveProgress {
  /**
   * In order: segments are being written; they are being read back, compared and applied; the snapshot is written;
   * SHA256SUMS lists all files.
   */
  readonly step: "writing" | "comparing" | "snapshot" | "kept";
  readonly doneEvents: number;
  readonly totalEvents: number;
}

export const SEGMENT_EVENTS = 100_000;
/** A segment ends once its lines have this many bytes, even if it has fewer events than `segmentEvents`. */
const SEGMENT_BYTES = 32 * 1024 * 1024;

/**
 * Writes events `first` to `through` and the state right after them to an archive, reads both back, and compares the
 * events with the log. Returns the attr of the ARCHIVE event, which the engine then writes; only that event lets the
 * log remove its rows. If the job is interrupted, its files are not part of the archive, and the next job removes them.
 * Throws ArchiveRefused if the folder cannot become this log's archive, an Error if the disk or the log fails.
 */
export async function prepareArchive(
  parts: ArchiveParts,
  { first, through }: ArchivePlan,
  before: string,
): Promise<ArchiveAttr> {
  const { source, data, folder, store, host, layout } = parts;
  openFolder(source, folder);
  const segments = writeSegments(parts, first, through);
  writeTiles(folder, parts.tiles, first, through);
  sync(folder);
  if (first > 1) {
    const folders = [data, source.archived.directory, folder];
    await restoreArchived(store, { archived: source.archived, log: source.id, folders, host, layout });
  }
  const timeUs = await fold(store, host, comparedRows(parts, segments, through));
  const state = await keepState(parts, through);
  parts.progress({ step: "snapshot", doneEvents: 0, totalEvents: 0 });
  const { name, sha256 } = state;
  writeSums(folder, [...readSums(folder), ...segments, { is: "state", through, name, sha256 }]);
  parts.progress({ step: "kept", doneEvents: 0, totalEvents: 0 });
  const named = segments.map((segment) => ({ name: segment.name, sha256: segment.sha256 }));
  return { before, first, through, time_us: timeUs, directory: folder, segments: named, state };
}

/**
 * Takes a new or empty folder, or this log's archive. Segments, snapshots and sums beyond `archived.through` are
 * removed: they are left over from a job whose ARCHIVE event was never written. Throws ArchiveRefused for any other
 * folder, and if the archive does not end with the last archived event.
 */
function openFolder({ id, archived }: ArchiveSource, folder: string): void {
  mkdirSync(folder, { recursive: true });
  const log = archivedLog(folder);
  const refused = (why: string): ArchiveRefused => new ArchiveRefused("not this log's archive", `${folder} ${why}`);
  if (log === null && readdirSync(folder).length > 0) throw refused("is not empty, and not an archive");
  if (log !== null && log !== id) throw refused(`is the archive of log ${log}; this log is ${id}`);
  if (log === null) markArchive(folder, id);
  const sums = readSums(folder);
  if (sums.some(({ through }) => through > archived.through))
    writeSums(
      folder,
      sums.filter(({ through }) => through <= archived.through),
    );
  for (const name of readdirSync(folder))
    if ((readName(name)?.through ?? 0) > archived.through) rmSync(join(folder, name));
  const { lastSeq } = new Archive(folder);
  if (lastSeq !== 0 && lastSeq !== archived.through)
    throw refused(
      `ends at event ${lastSeq}, but events up to ${archived.through} are archived: name another directory`,
    );
}

function writeSegments(
  { source, folder, segmentEvents, progress }: ArchiveParts,
  first: number,
  through: number,
): Segment[] {
  const segments: Segment[] = [];
  let lines: string[] = [];
  let bytes = 0;
  for (const row of source.rows(first - 1, through)) {
    const line = eventLine(row);
    lines.push(line);
    bytes += line.length;
    if (lines.length < segmentEvents && bytes < SEGMENT_BYTES && row.seq < through) continue;
    segments.push(writeSegment(folder, row.seq - lines.length + 1, row.seq, lines));
    progress({ step: "writing", doneEvents: row.seq - first + 1, totalEvents: through - first + 1 });
    lines = [];
    bytes = 0;
  }
  if (segments.at(-1)?.through !== through)
    throw new Error(`reading the log: it does not have all events from ${first} to ${through}`);
  return segments;
}

function writeSegment(folder: string, first: number, through: number, lines: readonly string[]): Segment {
  const name = eventsName(first, through);
  const bytes = segmentBytes(lines.join(""));
  writeFileSync(join(folder, name), bytes, { flush: true });
  return { is: "events", name, first, through, sha256: hash("sha256", bytes) };
}

/** The segments' events, read back from the disk. Throws if one of them differs from the log's. */
function* comparedRows(
  { source, folder, progress }: ArchiveParts,
  segments: readonly Segment[],
  through: number,
): Iterable<EventRow> {
  const first = (segments[0] as Segment).first;
  const logged = source.rows(first - 1, through)[Symbol.iterator]();
  for (const segment of segments) {
    for (const row of readSegment(folder, segment)) {
      const next = logged.next();
      if (next.done || eventLine(next.value) !== eventLine(row))
        throw new Error(`${join(folder, segment.name)}: event ${row.seq} differs from the log's`);
      yield row;
    }
    progress({ step: "comparing", doneEvents: segment.through - first + 1, totalEvents: through - first + 1 });
  }
}

/** Writes the store's cells as a snapshot into the archive, and links or copies it into the data directory. */
async function keepState(
  { source, data, folder, layout, store }: ArchiveParts,
  through: number,
): Promise<ArchiveAttr["state"]> {
  const name = stateName(through);
  const file = join(folder, name);
  const head = { log: source.id, seq: through, layout };
  await writeSnapshot(file, head, store.range(FIRST_CELL, AFTER_CELLS));
  await compareSnapshot(file, head, store);
  copy(file, join(data, name));
  sync(data);
  return { name, sha256: await sha256Of(file) };
}

const FIRST_CELL = "\x01";
const AFTER_CELLS = "\xff";

async function compareSnapshot(file: string, head: SnapshotHead, store: StateStore): Promise<void> {
  const damaged = new Error(`${file} does not have the cells that were written to it`);
  const snapshot = await readSnapshot(file);
  if (JSON.stringify(snapshot.head) !== JSON.stringify(head)) throw damaged;
  const cells = store.range(FIRST_CELL, AFTER_CELLS)[Symbol.iterator]();
  for await (const batch of snapshot.cells)
    for (const [key, value] of batch) {
      const next = cells.next();
      if (next.done || next.value[0] !== key || !next.value[1].equals(value)) throw damaged;
    }
  if (!cells.next().done) throw damaged;
}

/**
 * Makes a hard link if both folders are on one file system, otherwise a copy. A link is safe because a snapshot never
 * changes.
 */
function copy(from: string, to: string): void {
  if (existsSync(to)) rmSync(to);
  try {
    linkSync(from, to);
  } catch {
    copyContents(from, to);
    sync(to);
  }
}
