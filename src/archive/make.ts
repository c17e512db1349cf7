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

/** What a job works with. */
export interface ArchiveParts {
  readonly source: ArchiveSource;
  /** The data directory; it gets the snapshot, too. */
  readonly data: string;
  /** The archive's folder, absolute. */
  readonly folder: string;
  readonly host: Host;
  readonly layout: number;
  /** The tree over the log, with all events that are archived. */
  readonly tiles: TileSource;
  /** An empty store, to make the snapshot in. */
  readonly store: StateStore;
  /** Events in a segment. */
  readonly segmentEvents: number;
  readonly progress: (progress: ArchiveProgress) => void;
}

export interface ArchiveProgress {
  /** Segments are written; read back, compared and folded; the snapshot is written; all is in the archive. */
  readonly step: "writing" | "comparing" | "snapshot" | "kept";
  readonly doneEvents: number;
  readonly totalEvents: number;
}

export const SEGMENT_EVENTS = 100_000;
/** A segment ends after so many bytes of lines, however few its events. */
const SEGMENT_BYTES = 32 * 1024 * 1024;

/**
 * Writes events to an archive, and the state right after them; reads all of it back and compares it with the log. Nothing
 * goes from the log: that is for the ARCHIVE event to say, whose attr this answers. What it leaves when it is broken off
 * is no part of the archive, and removed the next time. Throws ArchiveRefused; an Error where the disk or the log fails.
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

/** Removes snapshots that a later one has replaced, and such as no ARCHIVE event names, from the data directory. */
export function removeSnapshots(data: string, archivedThrough: number): void {
  for (const name of readdirSync(data)) {
    const file = readName(name);
    if (file?.is === "state" && file.through !== archivedThrough) rmSync(join(data, name));
  }
}

/** A folder that is new, or this log's archive up to what the log says is archived: what lies beyond was never logged. */
function openFolder({ id, archived }: ArchiveSource, folder: string): void {
  mkdirSync(folder, { recursive: true });
  const log = archivedLog(folder);
  const refused = (why: string): ArchiveRefused => new ArchiveRefused("not this log's archive", `${folder} ${why}`);
  if (log === null && readdirSync(folder).length > 0) throw refused("is no archive, and not empty");
  if (log !== null && log !== id) throw refused(`is the archive of log ${log}, this is ${id}`);
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
    throw new Error(`reading the log: it does not have all events up to ${through}`);
  return segments;
}

function writeSegment(folder: string, first: number, through: number, lines: readonly string[]): Segment {
  const name = eventsName(first, through);
  const bytes = segmentBytes(lines.join(""));
  writeFileSync(join(folder, name), bytes, { flush: true });
  return { is: "events", name, first, through, sha256: hash("sha256", bytes) };
}

/** The segments' events as the disk has them. Throws where one of them is not what the log has. */
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
        throw new Error(`${join(folder, segment.name)} has not event ${row.seq} as the log has it`);
      yield row;
    }
    progress({ step: "comparing", doneEvents: segment.through - first + 1, totalEvents: through - first + 1 });
  }
}

/** The store's cells as a snapshot, in the archive and in the data directory. */
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
  const damaged = new Error(`${file} has not the cells that were written to it`);
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

/** The same file twice where one file system has both folders: it never changes. */
function copy(from: string, to: string): void {
  if (existsSync(to)) rmSync(to);
  try {
    linkSync(from, to);
  } catch {
    copyContents(from, to);
    sync(to);
  }
}
