/** Proves that an event is in a log, from files alone: those of a data directory, or those of an archive. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CMD } from "../abi/service.ts";
import { archivedLog } from "../archive/archive.ts";
import { type PlacedSegment, segmentsAtHand } from "../archive/at_hand.ts";
import { segmentRows } from "../archive/segment.ts";
import { readSums } from "../archive/sums.ts";
import { readTile, tileOver } from "../archive/tiles.ts";
import { CanonicalWriter, type RowBytes, rowBytes } from "../log/canonical.ts";
import type { EventRow } from "../log/event.ts";
import { proofText } from "../log/tlog_proof.ts";
import { readArchived } from "../sqlite/archive_facts.ts";
import { SqliteLogRows } from "../sqlite/log_rows.ts";
import { TreeFile } from "../sqlite/tree_store.ts";
import { HASH_BYTES, inclusionProof, leafHash, provesInclusion } from "../tlog/merkle.ts";
import { notedCheckpoint, signatureLine } from "../tlog/note.ts";
import { subtreesOf, TILE_BYTES, type Tiles } from "../tlog/tiles.ts";
import { checkData } from "./entries.ts";
import { ARCHIVE_FOLDER, LOG_FILE, TREE_FILE } from "./layout.ts";

/** The data directory and the archive that have the event and the tree. */
export interface ProofPlaces {
  /** null: the archive alone must have everything. */
  readonly data: string | null;
  readonly archive: string | null;
  /** A file with a checkpoint that was kept elsewhere; null: one of the data directory or the archive. */
  readonly checkpoint: string | null;
}

/** Everything that a proof needs. */
interface Evidence {
  readonly row: RowBytes;
  readonly tiles: Tiles;
  /** Signed notes; the first one that includes the event is used. */
  readonly notes: readonly string[];
  close(): void;
}

/** Returns the proof of an event as text. Throws an Error that says what is missing or contradicts the event. */
export async function makeProof(seq: number, { data, archive, checkpoint }: ProofPlaces): Promise<string> {
  const evidence = await (data === null ? ofArchive(seq, archive as string) : ofData(seq, data, archive));
  try {
    return proofOf(seq, evidence, checkpoint === null ? evidence.notes : [readFileSync(checkpoint, "utf8")]);
  } finally {
    evidence.close();
  }
}

function proofOf(seq: number, { row, tiles }: Evidence, notes: readonly string[]): string {
  const note = notes.find((one) => (notedCheckpoint(one)?.size ?? 0) >= seq);
  const checkpoint = note === undefined ? null : notedCheckpoint(note);
  if (note === undefined || checkpoint === null)
    throw new Error(`no available checkpoint includes event ${seq}: give one with --checkpoint, or ask the service`);
  const { size, root } = checkpoint;
  const canonical = new CanonicalWriter();
  const hashes = inclusionProof(seq - 1, size, subtreesOf(whole(tiles)));
  if (!provesInclusion(leafHash(canonical.entry(row)), seq - 1, size, hashes, root))
    throw new Error(`event ${seq}, as it was found, is not in the signed tree of ${size} events`);
  return proofText({ canonical: canonical.bytes(row), index: seq - 1, hashes, checkpoint: note });
}

/** The id of a data directory's log; null if there is no log. */
export function logOf(data: string): string | null {
  const file = join(data, LOG_FILE);
  if (!existsSync(file)) return null;
  checkData(data);
  const log = new SqliteLogRows(file, true);
  try {
    return log.id;
  } finally {
    log.close();
  }
}

async function ofData(seq: number, data: string, archive: string | null): Promise<Evidence> {
  checkData(data);
  if (!existsSync(join(data, LOG_FILE))) throw new Error(`${data} is not a data directory: it has no ${LOG_FILE}`);
  if (!existsSync(join(data, TREE_FILE))) throw new Error(`${data} has no ${TREE_FILE}`);
  const log = new SqliteLogRows(join(data, LOG_FILE), true);
  const tree = new TreeFile(join(data, TREE_FILE));
  try {
    const last = log.lastSeq();
    if (seq > last) throw new Error(`there is no event ${seq}: the log ends at ${last}`);
    const { through, directory } = readArchived(log.fact("archived"));
    const folders = [...(archive === null ? [] : [archive]), directory, join(data, ARCHIVE_FOLDER)];
    const row = seq > through ? [...log.rows(seq - 1, seq)][0] : await rowIn(folders, log.id, through, seq);
    if (row === undefined) throw new Error(`event ${seq} is missing in the log`);
    const tiles: Tiles = (level, index) => tree.tile(level, index) ?? Buffer.alloc(0);
    return { row, tiles, notes: notesOf(tree), close: () => tree.close() };
  } catch (error) {
    tree.close();
    throw error;
  } finally {
    log.close();
  }
}

/** The newest checkpoint that a witness has cosigned, then the newest of all. */
function notesOf(tree: TreeFile): string[] {
  const [newest] = tree.cosigners();
  const cosigned = newest === undefined ? null : tree.checkpoint(newest.size);
  // A tree of an earlier release may have no table for cosignatures.
  const lines = (size: number): string[] =>
    newest === undefined ? [] : tree.cosignatures(size).map(({ name, bytes }) => signatureLine(name, bytes));
  return [cosigned, tree.lastCheckpoint()]
    .filter((kept) => kept !== null)
    .map(({ size, note }) => note + lines(size).join(""));
}

async function ofArchive(seq: number, folder: string): Promise<Evidence> {
  const log = archivedLog(folder);
  if (log === null) throw new Error(`${folder} is not an archive: it has no archive.json`);
  const through = readSums(folder).findLast(({ is }) => is === "events")?.through ?? 0;
  const segments = segmentsAtHand([folder], log, through);
  if (typeof segments === "string") throw new Error(segments);
  const row = await rowOf(segments, seq);
  const tiles: Tiles = (level, index) => {
    const tile = tileOver(level, index, through);
    return (tile === null ? undefined : readTile(folder, tile)) ?? Buffer.alloc(0);
  };
  const note = await newestNote(segments, through);
  return { row, tiles, notes: note === null ? [] : [note], close() {} };
}

async function rowIn(folders: readonly string[], log: string, through: number, seq: number): Promise<RowBytes> {
  const segments = segmentsAtHand(folders, log, through);
  if (typeof segments === "string") throw new Error(`event ${seq} is archived, and not available: ${segments}`);
  return rowOf(segments, seq);
}

async function rowOf(segments: readonly PlacedSegment[], seq: number): Promise<RowBytes> {
  const segment = segments.find(({ first, through }) => first <= seq && seq <= through);
  if (segment === undefined)
    throw new Error(`the archive has events ${segments[0]?.first} to ${segments.at(-1)?.through}, not ${seq}`);
  const found = await findLast(segment, (row) => row.seq === seq);
  return rowBytes(found as EventRow);
}

/**
 * The note of the newest checkpoint that an archived event records and whose tree the archive has in full; null if
 * there is none.
 */
async function newestNote(segments: readonly PlacedSegment[], through: number): Promise<string | null> {
  for (const segment of segments.toReversed()) {
    const isTold = ({ cmd, attr }: EventRow): boolean =>
      cmd === CMD.CHECKPOINT && JSON.parse(attr ?? "{}").size <= through;
    const found = await findLast(segment, isTold);
    if (found !== null) return JSON.parse(found.attr ?? "{}").note;
  }
  return null;
}

/** Reads the segment to its end, because only then is its SHA-256 verified. */
async function findLast(segment: PlacedSegment, is: (row: EventRow) => boolean): Promise<EventRow | null> {
  let found: EventRow | null = null;
  for await (const rows of segmentRows(segment.folder, segment)) found = rows.findLast(is) ?? found;
  return found;
}

/** Pads missing hashes with zeros, so that no proof verifies with them. */
function whole(tiles: Tiles): Tiles {
  return (level, index) => {
    const hashes = tiles(level, index);
    if (hashes.length % HASH_BYTES !== 0 || hashes.length >= TILE_BYTES) return hashes.subarray(0, TILE_BYTES);
    return Buffer.concat([hashes], TILE_BYTES);
  };
}
