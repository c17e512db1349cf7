import { existsSync } from "node:fs";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import type { Archived } from "../engine/archives.ts";
import { IGNORE } from "../engine/followers.ts";
import { MemoryCells } from "../engine/memory.ts";
import { PendingCells } from "../engine/pending.ts";
import { asOwner } from "../files/owner.ts";
import { readHost } from "../host.ts";
import { reasonToDiscard } from "../lmdb/marker.ts";
import type { Host } from "../maps/map.ts";
import { ARCHIVED, readArchived } from "../sqlite/archive_facts.ts";
import { chunkEvents, readChunks } from "../sqlite/changes.ts";
import { LIFE } from "../sqlite/facts.ts";
import { StateFile } from "../state/state_file.ts";
import { redo } from "../syscall/execute.ts";
import { State } from "../syscall/state.ts";
import { restoreFromArchive } from "./archive_job.ts";
import { checkData } from "./entries.ts";
import { LOG_FILE, STATE_FOLDER } from "./layout.ts";

const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const FACT = "SELECT value FROM ledger WHERE name = ?";

/** A ledger right after its log's last event. */
export interface LedgerRead {
  readonly log: string;
  readonly life: string;
  readonly host: Host;
  readonly state: State;
}

/**
 * Reads the state of a data directory whose service may be running, without a lock or a write. Events that the state
 * does not include yet are applied from the log. Returns the result of `look`, which must not keep the state. Throws an
 * Error with the reason if the state cannot be read.
 */
export async function readState<Answer>(data: string, look: (ledger: LedgerRead) => Answer): Promise<Answer> {
  checkData(data);
  const log = join(data, LOG_FILE);
  if (!existsSync(log)) throw new Error(`${data} is not a data directory: it has no events.sqlite`);
  const db = new Sqlite(log, { readonly: true, fileMustExist: true });
  let file: StateFile | null = null;
  try {
    const fact = (name: string): string => (db.prepare(FACT).pluck().get(name) as string | undefined) ?? "";
    const id = fact("id");
    const folder = join(data, STATE_FOLDER);
    if (existsSync(folder) && reasonToDiscard(folder, id) === null)
      file = asOwner(data, () => new StateFile(folder, id));
    // The state is read before the log, so that the log has all events that the state includes.
    const reached = file?.look() ?? 0;
    db.exec("BEGIN");
    const host = { ...readHost(), possibleCpus: Number(fact("possible_cpus")) };
    const archived = readArchived(fact(ARCHIVED));
    const base =
      file !== null && reached >= archived.through
        ? readOnly(file, reached)
        : await begun({ id, archived }, { data, host });
    const state = new State(new PendingCells(base), host, IGNORE);
    for (const chunk of readChunks(db, base.seq, db.prepare(LAST_SEQ).pluck().get() as number))
      for (const { command, outcome } of chunkEvents(chunk)) redo(state, command, outcome);
    return look({ log: id, life: fact(LIFE), host, state });
  } finally {
    await file?.close();
    db.close();
  }
}

type Base = ConstructorParameters<typeof PendingCells>[0];

function readOnly(file: StateFile, seq: number): Base {
  return {
    seq,
    get: (key) => file.get(key),
    range: (from, to) => file.range(from, to),
    write: () => Promise.reject(new Error("the state is only read")),
  };
}

/** The state at the beginning of the log: empty, or the one right after the archived events. */
async function begun(
  log: { readonly id: string; readonly archived: Archived },
  where: { readonly data: string; readonly host: Host },
): Promise<Base> {
  const cells = new MemoryCells();
  if (log.archived.through > 0) await restoreFromArchive(cells, log, where);
  return cells;
}
