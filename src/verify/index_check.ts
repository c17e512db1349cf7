import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Sqlite, { type Database } from "better-sqlite3";
import type { MapRecord } from "../maps/map.ts";
import { EventIndex } from "../sqlite/event_index.ts";
import { mapsIn } from "../syscall/state.ts";
import { archivedState } from "./archived_state.ts";
import type { Finding } from "./finding.ts";

const INDEX_FILE = "index.sqlite";
const PROGRESS = "SELECT log, seq FROM kept.progress";
/** By what the index finds events; each table's key is that and the seq. */
const COLUMNS = ["map", "session", "caller", "cmd", "errno", "key"] as const;
/** The first event that one index has under something, and the other does not. */
const firstOnlyIn = (one: string, other: string, column: string): string => `
  SELECT min(a.seq) FROM ${one}.by_${column} AS a WHERE a.seq > ? AND a.seq <= ?
  AND NOT EXISTS (SELECT 1 FROM ${other}.by_${column} AS b WHERE b.${column} = a.${column} AND b.seq = a.seq)`;
const KEY_SIZES =
  "SELECT min(a.map) FROM main.key_sizes AS a JOIN kept.key_sizes AS b ON b.map = a.map WHERE a.key_size <> b.key_size";

/** Makes the index of a data directory anew and compares: an event that a query does not find is as good as removed. */
export async function checkIndex(data: string): Promise<Finding[]> {
  const kept = join(data, INDEX_FILE);
  if (!existsSync(kept)) return [];
  const folder = mkdtempSync(join(tmpdir(), "mapledger-verify-"));
  try {
    const file = join(folder, INDEX_FILE);
    const { log, through } = await makeIndex(data, file);
    const db = new Sqlite(file);
    try {
      db.prepare("ATTACH ? AS kept").run(kept);
      // One moment of an index that a service may be writing.
      db.exec("BEGIN");
      return differences(db, log, through);
    } finally {
      db.close();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function makeIndex(data: string, file: string): Promise<{ log: string; through: number }> {
  const index = new EventIndex(join(data, "events.sqlite"), file);
  try {
    const archived = index.archived();
    if (index.isCutOff()) {
      const maps: MapRecord[] = [];
      const { cells } = await archivedState(data, index.logId, archived);
      for await (const batch of cells) maps.push(...mapsIn(batch));
      index.skip(archived.through, maps);
    }
    while (index.catchUp());
    return { log: index.logId, through: archived.through };
  } finally {
    index.close();
  }
}

/** Of the events that both have; an index of another log the service would throw away. */
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
      findings.push({ seq: added, text: `${INDEX_FILE} finds it by a ${column} that it does not have` });
  }
  const map = db.prepare(KEY_SIZES).pluck().get() as number | null;
  if (map !== null) findings.push({ seq: null, text: `${INDEX_FILE} has another size for the keys of map ${map}` });
  return findings;
}
