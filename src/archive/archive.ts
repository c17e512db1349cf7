/**
 * The folder of an archive: a mark with the log's id, segments of events, snapshots of the state, tiles of the log's
 * tree, and SHA256SUMS, which lists the segments and snapshots. A segment or snapshot that it does not list is left
 * over from a job that died. make.ts says in which order a job writes these files.
 */

import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readSmall, writeWhole } from "../files/contents.ts";
import { checkEntries, type Kind } from "../files/entries.ts";
import type { EventRow } from "../log/event.ts";
import { readName } from "./names.ts";
import { readSegment, type Segment } from "./segment.ts";
import { readSums, SUMS, type Summed } from "./sums.ts";
import { isTileFile, isTileFolder, tileFile, tilesOver } from "./tiles.ts";

/** Holds the id of the log that the archive belongs to, as JSON. */
const MARK = "archive.json";

/** The archived events of a log, ascending. A reader of a whole log begins here. */
export class Archive {
  readonly folder: string;
  readonly log: string;
  /** Ascending by seq, without a gap. */
  readonly segments: readonly Segment[];

  /** Throws an Error if the folder is not an archive, or if events are missing between two of its segments. */
  constructor(folder: string) {
    const log = archivedLog(folder);
    if (log === null) throw new Error(`${folder} is not an archive: it has no ${MARK}`);
    this.folder = folder;
    this.log = log;
    this.segments = readSums(folder).filter(isSegment);
    this.segments.forEach(({ first }, at) => {
      const before = this.segments[at - 1]?.through ?? first - 1;
      if (first !== before + 1) throw new Error(`${folder} has a gap: event ${before} is followed by event ${first}`);
    });
  }

  /** Seq of the first archived event, and below of the last; 0 if the archive has no events. */
  get oldestSeq(): number {
    return this.segments[0]?.first ?? 0;
  }

  get lastSeq(): number {
    return this.segments.at(-1)?.through ?? 0;
  }

  /**
   * Events afterSeq + 1 to throughSeq, ascending. Throws an Error that names the damaged segment, or the range of
   * events that the archive has.
   */
  *rows(afterSeq: number, throughSeq: number): Iterable<EventRow> {
    if (throughSeq <= afterSeq) return;
    if (afterSeq + 1 < this.oldestSeq || throughSeq > this.lastSeq)
      throw new Error(
        `${this.folder} has events ${this.oldestSeq} to ${this.lastSeq}, not ${afterSeq + 1} to ${throughSeq}`,
      );
    for (const segment of this.segments)
      if (segment.through > afterSeq && segment.first <= throughSeq)
        for (const row of readSegment(this.folder, segment)) if (row.seq > afterSeq && row.seq <= throughSeq) yield row;
  }
}

/**
 * The first of the folders' archives that has all events of a log up to `through`; if there is none, the reasons,
 * joined.
 */
export function openArchive(folders: readonly string[], log: string, through: number): Archive | string {
  const reasons: string[] = [];
  for (const folder of folders)
    try {
      const archive = new Archive(folder);
      if (archive.log === log && archive.oldestSeq === 1 && archive.lastSeq >= through) return archive;
      reasons.push(`${folder} has events ${archive.oldestSeq} to ${archive.lastSeq} of log ${archive.log}`);
    } catch (error) {
      reasons.push((error as Error).message);
    }
  return [...new Set(reasons)].join("; ");
}

/**
 * The id of the log whose archive a folder is; null if the folder is not an archive. Throws if the mark cannot be read,
 * or if an entry that has the name of an archive's file is a symbolic link or a FIFO.
 */
export function archivedLog(folder: string): string | null {
  const file = join(folder, MARK);
  checkEntries(folder, kindInArchive, true);
  if (!existsSync(file)) return null;
  try {
    const { log } = JSON.parse(readSmall(file).toString());
    if (typeof log !== "string") throw new Error("it does not name a log");
    return log;
  } catch (error) {
    throw new Error(`${file} is damaged: ${(error as Error).message}`);
  }
}

export function markArchive(folder: string, log: string): void {
  writeWhole(join(folder, MARK), `${JSON.stringify({ log })}\n`);
}

/** Names of all files of an archive, relative to its folder; empty if the folder is not an archive. */
export function* archiveFiles(folder: string): Iterable<string> {
  if (!existsSync(join(folder, MARK))) return;
  yield MARK;
  if (!existsSync(join(folder, SUMS))) return;
  yield SUMS;
  const files = readSums(folder);
  for (const { name } of files) yield name;
  const segments = files.filter(isSegment);
  // Yielded one by one: a segment's name may claim so many events that a list of their tiles would not fit into memory.
  for (const tile of tilesOver(segments[0]?.first ?? 1, segments.at(-1)?.through ?? 0)) yield tileFile(tile);
}

/**
 * Names of all files that look like an archive's, whether SHA256SUMS lists them or not; empty if the folder is not an
 * archive.
 */
export function* archiveFilesIn(folder: string): Iterable<string> {
  if (!existsSync(join(folder, MARK))) return;
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) if (isArchiveFile(name)) yield name;
}

/** The kind of entry that a name in an archive's folder must have; null if no file of an archive has that name. */
export function kindInArchive(name: string): Kind | null {
  if (isTileFolder(name)) return "directory";
  return isArchiveFile(name) ? "file" : null;
}

export function isArchiveFile(name: string): boolean {
  return name === MARK || name === SUMS || readName(name) !== null || isTileFile(name);
}

function isSegment(file: Summed): file is Segment {
  return file.is === "events";
}

/**
 * Removes from the data directory all snapshots but that of the last ARCHIVE event: replaced ones, and those of jobs
 * that died before their event.
 */
export function removeSnapshots(data: string, archivedThrough: number): void {
  for (const name of readdirSync(data)) {
    const file = readName(name);
    if (file?.is === "state" && file.through !== archivedThrough) rmSync(join(data, name));
  }
}
