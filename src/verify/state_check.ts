/** Compares the state of a data directory with the fold of the log's events, both as of one moment. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { LOG_FILE, STATE_FOLDER } from "../data/layout.ts";
import { readHost } from "../host.ts";
import { reasonToDiscard } from "../lmdb/marker.ts";
import { type CellKey, readU32Key } from "../maps/cells.ts";
import { ARCHIVED, readArchived } from "../sqlite/archive_facts.ts";
import { chunkEvents, readChunks } from "../sqlite/changes.ts";
import { LOG_ID, POSSIBLE_CPUS } from "../sqlite/facts.ts";
import { StateFile } from "../state/state_file.ts";
import type { State } from "../syscall/state.ts";
import type { Places } from "./archived_state.ts";
import { cellText, ELEMENT, GARBAGE, shown, USE } from "./cell_text.ts";
import type { Finding } from "./finding.ts";
import { foldArchived } from "./snapshots_check.ts";
import { Fold, NoReplay } from "./state_fold.ts";

const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const FACT = "SELECT value FROM ledger WHERE name = ?";

export interface StateReport {
  readonly findings: readonly Finding[];
  /** The reason why there was no state to compare, or null. */
  readonly none: string | null;
  /** The last event that the state includes; below the number of its cells that were compared. */
  readonly seq: number;
  readonly cells: number;
}

/**
 * Folds the events up to the last one that the state includes, and compares the cells. Checks the snapshots, too.
 */
export async function checkState(places: Places, progress: (seq: number) => void): Promise<StateReport> {
  const { data } = places;
  const db = new Sqlite(join(data, LOG_FILE), { readonly: true, fileMustExist: true });
  const fact = (name: string): string => (db.prepare(FACT).pluck().get(name) as string | undefined) ?? "";
  const log = fact(LOG_ID);
  const host = { ...readHost(), possibleCpus: Number(fact(POSSIBLE_CPUS)) };
  const folder = join(data, STATE_FOLDER);
  let file: StateFile | null = null;
  try {
    const archived = readArchived(fact(ARCHIVED));
    const { fold, findings } =
      archived.through === 0
        ? { fold: new Fold(host), findings: [] }
        : await foldArchived({ places, archived, log, host, progress });
    const none = existsSync(folder) ? reasonToDiscard(folder, log) : "there is none";
    if (none !== null) return { findings, none, seq: 0, cells: 0 };
    file = new StateFile(folder, log);
    const report = await compareFile(fold, file, db, progress);
    return { ...report, findings: [...findings, ...report.findings] };
  } catch (error) {
    if (error instanceof NoReplay) return wrong(0, error.seq, error.message);
    return wrong(0, null, `the state cannot be compared: ${(error as Error).message}`);
  } finally {
    await file?.close();
    db.close();
  }
}

/** `fold` begins after the archived events. */
async function compareFile(
  fold: Fold,
  file: StateFile,
  db: Sqlite.Database,
  progress: (seq: number) => void,
): Promise<StateReport> {
  const lastSeq = db.prepare(LAST_SEQ).pluck();
  for (;;) {
    const seq = file.look();
    const last = lastSeq.get() as number;
    if (seq > last) return wrong(seq, null, `the state has events up to ${seq}, the log ends at ${last}`);
    if (seq < fold.seq)
      return { findings: [], none: `it ends at event ${seq}, before the last archived event`, seq, cells: 0 };
    if (fold.seq === seq) {
      const differs = compare(fold, file);
      if (typeof differs === "string") return wrong(seq, null, `after event ${seq} ${differs}`);
      return { findings: [], none: null, seq, cells: differs };
    }
    file.leave();
    try {
      for (const chunk of readChunks(db, fold.seq, seq)) {
        await fold.through(chunkEvents(chunk), chunk.until);
        progress(fold.seq);
      }
      await fold.settle();
    } catch (error) {
      return error instanceof NoReplay
        ? wrong(seq, error.seq, error.message)
        : wrong(seq, null, `the log cannot be replayed: ${(error as Error).message}`);
    }
  }
}

function wrong(seq: number, first: number | null, text: string): StateReport {
  return { findings: [{ seq: first, text }], none: null, seq, cells: 0 };
}

/**
 * Returns the number of cells if all are equal, otherwise a text about the first that differs. Cells of freed maps that
 * the state marks as garbage are ignored: the service reclaims them when it rests.
 */
function compare(fold: Fold, file: StateFile): number | string {
  let count = 0;
  const expected = fold.cells()[Symbol.iterator]();
  let next = expected.next();
  for (const [key, value] of file.cells()) {
    if (isGarbage(key, fold.state, file)) continue;
    if (next.done === true || key < next.value[0]) return `${cellText(key)} is in the state, but no event put it there`;
    if (key > next.value[0]) return `${cellText(next.value[0])} is missing in the state`;
    if (!value.equals(next.value[1]))
      return `${cellText(key)} is ${shown(value)} in the state, the events give ${shown(next.value[1])}`;
    count++;
    next = expected.next();
  }
  return next.done === true ? count : `${cellText(next.value[0])} is missing in the state`;
}

function isGarbage(key: CellKey, state: State, file: StateFile): boolean {
  const table = key[0];
  if ((table !== ELEMENT && table !== GARBAGE && table !== USE) || key.length < 5) return false;
  const map = readU32Key(key, 1);
  if (state.map(map) !== undefined || map > state.lastId("map") || state.garbage.isDeferred(map)) return false;
  return table === GARBAGE || file.has(`${GARBAGE}${key.slice(1, 5)}`);
}
