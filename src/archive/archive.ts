import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { readSmall, writeWhole } from "../files/contents.ts";
import { checkEntries, type Kind } from "../files/entries.ts";
import type { EventRow } from "../log/event.ts";
import { readName } from "./names.ts";
import { readSegment, type Segment } from "./segment.ts";
import { readSums, SUMS, type Summed } from "./sums.ts";
import { isTileFile, isTileFolder, tileFile, tilesOver } from "./tiles.ts";

/** Says whose archive a folder is. */
const MARK = "archive.json";

/** The archived events of a log, for whoever reads a log from its beginning. */
export class Archive {
  readonly folder: string;
  /** The log's id. */
  readonly log: string;
  /** Without a gap, ascending. */
  readonly segments: readonly Segment[];

  /** Throws an Error that says why the folder is no archive, or that it lacks events between others. */
  constructor(folder: string) {
    const log = archivedLog(folder);
    if (log === null) throw new Error(`${folder} is no archive: it has no ${MARK}`);
    this.folder = folder;
    this.log = log;
    this.segments = readSums(folder).filter(isSegment);
    this.segments.forEach(({ first }, at) => {
      const before = this.segments[at - 1]?.through ?? first - 1;
      if (first !== before + 1) throw new Error(`${folder} does not go on: event ${before} is followed by ${first}`);
    });
  }

  /** The first event, and the last; 0 where there is none. */
  get oldestSeq(): number {
    return this.segments[0]?.first ?? 0;
  }

  get lastSeq(): number {
    return this.segments.at(-1)?.through ?? 0;
  }

  /**
   * Events after one seq up to another, ascending. Throws an Error that names a damaged segment, or says which events the
   * archive does not have.
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

/** The first folder's archive that has all events of a log up to one, or why there is none. */
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

/** Which log's archive a folder is, null where it is none. Throws where its mark cannot be read, and where there is a link or a FIFO for a file. */
export function archivedLog(folder: string): string | null {
  const file = join(folder, MARK);
  checkEntries(folder, kindInArchive, true);
  if (!existsSync(file)) return null;
  try {
    const { log } = JSON.parse(readSmall(file).toString());
    if (typeof log !== "string") throw new Error("it names no log");
    return log;
  } catch (error) {
    throw new Error(`${file} is damaged: ${(error as Error).message}`);
  }
}

export function markArchive(folder: string, log: string): void {
  writeWhole(join(folder, MARK), `${JSON.stringify({ log })}\n`);
}

/** All files of an archive; none where a folder is none. */
export function* archiveFiles(folder: string): Iterable<string> {
  if (!existsSync(join(folder, MARK))) return;
  yield MARK;
  if (!existsSync(join(folder, SUMS))) return;
  yield SUMS;
  const files = readSums(folder);
  for (const { name } of files) yield name;
  const segments = files.filter(isSegment);
  // Of as many events as a name says there may be more tiles than names can be held.
  for (const tile of tilesOver(segments[0]?.first ?? 1, segments.at(-1)?.through ?? 0)) yield tileFile(tile);
}

/** Files that are an archive's by their names, whether it lists them or not; none where there is no archive. */
export function* archiveFilesIn(folder: string): Iterable<string> {
  if (!existsSync(join(folder, MARK))) return;
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) if (isArchiveFile(name)) yield name;
}

/** What is to be under a name in an archive's folder. */
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
