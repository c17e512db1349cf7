/** Compares index.sqlite with an index that is built anew from the log. */

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite, { type Database } from "better-sqlite3";
import { INDEX_FILE, LOG_FILE } from "../data/layout.ts";
import { EventIndex } from "../index/event_index.ts";
import type { MapRecord } from "../maps/map.ts";
import { mapsIn } from "../syscall/map_table.ts";
import { archivedState, type Places } from "./archived_state.ts";
import type { Finding } from "./finding.ts";

const PROGRESS = "SELECT log, seq FROM kept.progress";
/** Columns that the index has a table for. The key of a table is the column and the seq. */
const COLUMNS = ["map", "session", "caller", "cmd", "errno", "key"] as const;
/** SQL for the first event that index `one` has under a value of the column and index `other` does not. */
const firstOnlyIn = (one: string, other: string, column: string): string => `
  SELECT min(a.seq) FROM ${one}.by_${column} AS a WHERE a.seq > ? AND a.seq <= ?
  AND NOT EXISTS (SELECT 1 FROM ${other}.by_${column} AS b WHERE b.${column} = a.${column} AND b.seq = a.seq)`;
const KEY_SIZES =
  "SELECT min(a.map) FROM main.key_sizes AS a JOIN kept.key_sizes AS b ON b.map = a.map WHERE a.key_size <> b.key_size";

const PEERS =
  "SELECT min(a.session) FROM main.session_peers AS a JOIN kept.session_peers AS b ON b.session = a.session WHERE a.peer <> b.peer";

/**
 * SQL for the first row that the kept index lacks. It is used only if the kept index is at least as far as the new one.
 */
const KEY_SIZE_GONE = "SELECT min(map) FROM (SELECT map FROM main.key_sizes EXCEPT SELECT map FROM kept.key_sizes)";
const PEER_GONE =
  "SELECT min(session) FROM (SELECT session FROM main.session_peers EXCEPT SELECT session FROM kept.session_peers)";

/**
 * Builds the index of a data directory anew and compares: an event that no query finds would be as good as removed.
 */
export async function checkIndex(places: Places): Promise<Finding[]> {
  const { data } = places;
  const kept = join(data, INDEX_FILE);
  if (!existsSync(kept)) return [];
  const folder = mkdtempSync(join(tmpdir(), "mapledger-verify-"));
  try {
    const file = join(folder, INDEX_FILE);
    const { log, through } = await makeIndex(places, file);
    const db = new Sqlite(file);
    try {
      db.prepare("ATTACH ? AS kept").run(kept);
      // The transaction pins one moment of the index, which a service may be writing.
      db.exec("BEGIN");
      return differences(db, log, through);
    } finally {
      db.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function makeIndex(places: Places, file: string): Promise<{ log: string; through: number }> {
  const index = new EventIndex(join(places.data, LOG_FILE), file);
  try {
    const archived = index.archived();
    if (index.isCutOff()) {
      const maps: MapRecord[] = [];
      const { cells } = await archivedState(places, index.logId, archived);
      for await (const batch of cells) maps.push(...mapsIn(batch));
      index.skip(archived.through, maps);
    }
    while (index.catchUp());
    return { log: index.logId, through: archived.through };
  } finally {
    index.close();
  }
}

/** Compares the events that both indexes have. An index of another log has no findings: the service discards it. */
function differences(db: Database, log: string, through: number): Finding[] {
  const progress = db.prepare(PROGRESS).get() as { log: string; seq: number } | undefined;
  if (progress === undefined || progress.log !== log) return [];
  const made = db.prepare("SELECT seq FROM main.progress").pluck().get() as number | undefined;
  const until = Math.min(progress.seq, made ?? 0);
  const first = (sql: string): number | null => db.prepare(sql).pluck().get(through, until) as number | null;
  const findings: Finding[] = [];
  for (const column of COLUMNS) {
    const missing = first(firstOnlyIn("main", "kept", column));
    const added = first(firstOnlyIn("kept", "main", column));
    if (missing !== null) findings.push({ seq: missing, text: `${INDEX_FILE} does not find it by its ${column}` });
    if (added !== null)
      findings.push({ seq: added, text: `${INDEX_FILE} finds it by a ${column} that the event does not have` });
  }
  const besides: readonly [sql: string, text: (number: number) => string][] = [
    [KEY_SIZES, (map) => `${INDEX_FILE} has another size for the keys of map ${map}`],
    [PEERS, (session) => `${INDEX_FILE} has another peer for session ${session}`],
  ];
  const gone: typeof besides = [
    [KEY_SIZE_GONE, (map) => `${INDEX_FILE} does not have the size of map ${map}'s keys`],
    [PEER_GONE, (session) => `${INDEX_FILE} does not have the peer of session ${session}`],
  ];
  for (const [sql, text] of progress.seq >= (made ?? 0) ? [...besides, ...gone] : besides) {
    const number = db.prepare(sql).pluck().get() as number | null;
    if (number !== null) findings.push({ seq: null, text: text(number) });
  }
  return findings;
}
