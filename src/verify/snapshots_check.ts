/**
 * Folds the archived events of a log from its archive, and compares the result with the snapshots that were made of it.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { Archive, openArchive } from "../archive/archive.ts";
import { stateName } from "../archive/names.ts";
import { restoreArchived } from "../archive/restore.ts";
import { readSnapshot } from "../archive/snapshot.ts";
import { readSums } from "../archive/sums.ts";
import type { Archived } from "../engine/archives.ts";
import { MemoryCells } from "../engine/memory.ts";
import { sha256Of } from "../files/contents.ts";
import { LAYOUT } from "../lmdb/marker.ts";
import { type EventRow, rowEvent } from "../log/event.ts";
import type { Host } from "../maps/map.ts";
import { archiveFolders, archivePlaces, type Places } from "./archived_state.ts";
import { cellText } from "./cell_text.ts";
import type { Finding } from "./finding.ts";
import { Fold, NoReplay } from "./state_fold.ts";

/** Archived events that one step applies. */
const CHUNK_EVENTS = 4096;

interface ArchivedLog {
  readonly places: Places;
  readonly archived: Archived;
  readonly log: string;
  readonly host: Host;
  readonly progress: (seq: number) => void;
}

/** A snapshot file: the state right after event `through`. */
interface Kept {
  readonly file: string;
  readonly through: number;
  readonly sha256: string;
}

/**
 * Folds a log's archived events, and compares each snapshot of them, in the archive and in the data directory, with the
 * fold. If the events cannot be read, the last snapshot takes the place of the fold. Throws an Error if neither can be
 * read.
 */
export async function foldArchived(parts: ArchivedLog): Promise<{ fold: Fold; findings: readonly Finding[] }> {
  const { places, archived, log, host } = parts;
  const own = {
    file: join(places.data, stateName(archived.through)),
    through: archived.through,
    sha256: archived.state,
  };
  const archive = openArchive(archivePlaces(places, archived), log, archived.through);
  if (archive instanceof Archive) {
    const fold = new Fold(host);
    try {
      return { fold, findings: await foldArchive(fold, archive, own, parts) };
    } catch (error) {
      // Ignored here: the check that hashes the events (log_check.ts) reports a damaged segment.
      if (error instanceof NoReplay) throw error;
    }
  }
  const fault = await bytesFault(own);
  const cells = new MemoryCells();
  await restoreArchived(cells, { archived, log, folders: archiveFolders(places, archived), host, layout: LAYOUT });
  return { fold: new Fold(host, cells), findings: fault === null ? [] : [{ seq: null, text: fault }] };
}

async function foldArchive(
  fold: Fold,
  archive: Archive,
  own: Kept,
  { log, progress }: ArchivedLog,
): Promise<Finding[]> {
  const { folder } = archive;
  const kept = readSums(folder)
    .filter(({ is, through }) => is === "state" && through <= own.through)
    .map(({ name, through, sha256 }): Kept => ({ file: join(folder, name), through, sha256 }));
  const findings: Finding[] = [];
  for (const snapshot of [...kept, own]) {
    await foldRows(fold, archive.rows(fold.seq, snapshot.through), progress);
    await fold.settle();
    const fault = (await bytesFault(snapshot)) ?? (await contentFault(snapshot, log, fold));
    if (fault !== null) findings.push({ seq: null, text: fault });
  }
  return findings;
}

async function foldRows(fold: Fold, rows: Iterable<EventRow>, progress: (seq: number) => void): Promise<void> {
  let chunk: EventRow[] = [];
  const write = async (): Promise<void> => {
    const last = chunk.at(-1);
    if (last === undefined) return;
    await fold.through(chunk.map(rowEvent), last.seq);
    progress(last.seq);
    chunk = [];
  };
  for (const row of rows) if (chunk.push(row) === CHUNK_EVENTS) await write();
  await write();
}

async function bytesFault({ file, sha256 }: Kept): Promise<string | null> {
  if (!existsSync(file)) return `${file} is missing`;
  return (await sha256Of(file)) === sha256 ? null : `${file} does not match its recorded SHA-256`;
}

/** If the snapshot has another layout, only its SHA-256 can be checked. */
async function contentFault({ file, through }: Kept, log: string, fold: Fold): Promise<string | null> {
  try {
    const { head, cells } = await readSnapshot(file);
    if (head.log !== log || head.seq !== through) return `${file} belongs to event ${head.seq} of log ${head.log}`;
    if (head.layout !== LAYOUT) return null;
    const expected = fold.cells()[Symbol.iterator]();
    const differs = (key: string): string =>
      `${file} differs from the state after event ${through}: ${cellText(key)} differs, is missing or is extra`;
    for await (const batch of cells)
      for (const [key, value] of batch) {
        const next = expected.next();
        if (next.done === true || next.value[0] !== key || !next.value[1].equals(value)) return differs(key);
      }
    const left = expected.next();
    return left.done === true ? null : differs(left.value[0]);
  } catch (error) {
    return `${file} cannot be read: ${(error as Error).message}`;
  }
}
