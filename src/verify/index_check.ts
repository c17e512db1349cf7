/** Compares the index with the log's events: each segment is built again in memory, and its cells are compared. */

import { join } from "node:path";
import Sqlite, { type Database } from "better-sqlite3";
import { INDEX_FOLDER, LOG_FILE } from "../data/layout.ts";
import type { SortedStore } from "../engine/ports.ts";
import { EventIndex } from "../index/event_index.ts";
import {
  FACETS,
  isOfSegment,
  KEY_SIZES,
  keySizeKey,
  ownerOf,
  PEERS,
  readU48Key,
  u48Bytes,
  u48In,
} from "../index/facets.ts";
import { LogColumns } from "../index/log_columns.ts";
import { OpenSegment } from "../index/open_segment.ts";
import { offsetsIn } from "../index/postings.ts";
import { readInfo, type StoredSegment, StoredSegments } from "../index/stored_segments.ts";
import type { CellKey } from "../maps/cells.ts";
import { RunsReader } from "../runs/reader.ts";
import { SINGLE } from "../runs/run_cells.ts";
import { mapsIn } from "../syscall/map_table.ts";
import { archivedState, type Places } from "./archived_state.ts";
import type { Finding } from "./finding.ts";

/** All cells. */
const ALL = ["\0", "\xff"] as const;
const PLACE = `${INDEX_FOLDER}/`;

/** The stored index of a data directory. */
interface Kept {
  readonly file: Cells;
  readonly segments: StoredSegments;
}

/**
 * Compares the index of a data directory with the log: if no query finds an event, that is as bad as its removal. An
 * index that the service would discard is not compared.
 */
export async function checkIndex(places: Places): Promise<Finding[]> {
  const { data } = places;
  const log = new EventIndex(join(data, LOG_FILE), null);
  const [id, last, archived] = [log.logId, log.lastSeq(), log.archived()];
  await log.close();
  const reader = RunsReader.open(join(data, INDEX_FOLDER), SINGLE);
  const db = new Sqlite(join(data, LOG_FILE), { fileMustExist: true });
  try {
    if (reader === null || reader.log !== id || reader.seq > last || reader.seq < archived.through) return [];
    const file = reader.cells;
    const info = readInfo(file);
    if (info === null || info.log !== id) return [];
    const segments = new StoredSegments(file, info.since, reader.seq);
    const findings = segmentFindings({ file, segments }, db, archived.through);
    if (archived.through === 0 || !info.hasSizes) return findings;
    const { cells } = await archivedState(places, id, archived);
    for await (const batch of cells)
      for (const { id: map, keySize } of mapsIn(batch)) findings.push(...sizeFindings(file, map, keySize));
    return findings;
  } finally {
    db.close();
    reader?.close();
  }
}

type Cells = Pick<SortedStore, "get" | "range" | "rangeDown">;

function segmentFindings({ file, segments }: Kept, db: Database, through: number): Finding[] {
  const counts = new Map<number, number>();
  for (const [key] of file.range(...ALL))
    if (isOfSegment(key)) counts.set(ownerOf(key), (counts.get(ownerOf(key)) ?? 0) + 1);
  const columns = new LogColumns(db);
  const findings: Finding[] = [];
  for (const segment of segments.all()) {
    const { first } = segment;
    const count = counts.get(first) ?? 0;
    counts.delete(first);
    // Archived events are no longer in the log.
    if (first > through) findings.push(...compared(file, segment, columns, count));
  }
  for (const first of counts.keys())
    findings.push({
      seq: first,
      text: `${PLACE} has entries of a segment that begins with this event, but not the segment`,
    });
  return findings;
}

/** `count`: cells that the segment has in the store. */
function* compared(file: Cells, { first, last }: StoredSegment, columns: LogColumns, count: number): Iterable<Finding> {
  const made = new OpenSegment(first, (map) => {
    const bytes = file.get(keySizeKey(map));
    return bytes === undefined ? undefined : u48In(bytes);
  });
  while (made.last < last) {
    if (made.isFull) {
      yield {
        seq: first,
        text: `${PLACE} has a segment that begins with this event and has more events than a segment can have`,
      };
      return;
    }
    made.takeIn(columns, last);
  }
  const known = new Set<CellKey>();
  for (const [key, bytes] of made.cells()) {
    const kept = file.get(key);
    if (isOfSegment(key)) known.add(key);
    if (kept?.equals(bytes) !== true) yield unlike([key, bytes], kept, first);
  }
  if (known.size === count) return;
  for (const [key, bytes] of file.range(...ALL))
    if (isOfSegment(key) && ownerOf(key) === first && !known.has(key)) yield unlike([key, null], bytes, first);
}

/** The finding for a cell that differs. `made` null: the index should not have the cell. */
function unlike([key, made]: readonly [CellKey, Buffer | null], kept: Buffer | undefined, first: number): Finding {
  const table = key[0] as string;
  if (table === KEY_SIZES[0]) return sizeFinding(readU48Key(key, 1), kept);
  if (table === PEERS[0]) {
    const text = kept === undefined ? "does not have the peer" : "has another peer";
    return { seq: null, text: `${PLACE} ${text} ${kept === undefined ? "of" : "for"} session ${readU48Key(key, 1)}` };
  }
  const facet = Object.entries(FACETS).find(([, letter]) => letter === table)?.[0];
  if (facet === undefined)
    return { seq: first, text: `${PLACE} has other entries in the segment that begins with this event` };
  const [wanted, found] = [offsetsIn(made), offsetsIn(kept)];
  const missing = wanted.find((offset) => !found.includes(offset));
  return missing !== undefined
    ? { seq: first + missing, text: `${PLACE} does not find this event by its ${facet}` }
    : {
        seq: first + (found.find((offset) => !wanted.includes(offset)) ?? 0),
        text: `${PLACE} finds this event by a ${facet} that it does not have`,
      };
}

function* sizeFindings(file: Cells, map: number, keySize: number): Iterable<Finding> {
  const kept = file.get(keySizeKey(map));
  if (kept?.equals(u48Bytes(keySize)) !== true) yield sizeFinding(map, kept);
}

function sizeFinding(map: number, kept: Buffer | undefined): Finding {
  const text =
    kept === undefined
      ? `${PLACE} does not have the size of map ${map}'s keys`
      : `${PLACE} has another size for the keys of map ${map}`;
  return { seq: null, text };
}
