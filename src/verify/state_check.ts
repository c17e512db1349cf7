import { existsSync } from "node:fs";
import { join } from "node:path";
import Sqlite from "better-sqlite3";
import { restoreArchived } from "../archive/restore.ts";
import { IGNORE } from "../engine/followers.ts";
import { MemoryCells } from "../engine/memory.ts";
import { PendingCells } from "../engine/pending.ts";
import { readHost } from "../host.ts";
import { StateFile } from "../lmdb/state_file.ts";
import { LAYOUT, reasonToDiscard } from "../lmdb/store.ts";
import type { Event } from "../log/event.ts";
import { type CellKey, readU32Key } from "../maps/cells.ts";
import type { Host } from "../maps/map.ts";
import { ARCHIVED, readArchived } from "../sqlite/archived.ts";
import { chunkEvents, readChunks } from "../sqlite/changes.ts";
import { redo } from "../syscall/execute.ts";
import { State } from "../syscall/state.ts";
import { archiveFolders } from "./archived_state.ts";
import type { Finding } from "./finding.ts";
import { checkHistory } from "./history_check.ts";

const LAST_SEQ = "SELECT coalesce(max(seq), 0) FROM events";
const FACT = "SELECT value FROM ledger WHERE name = ?";

/** When what has been folded is put in order: cells change many times over, and only what they are in the end is. */
const WRITE_CELLS = 1_048_576;
const WRITE_BYTES = 256 * 1024 * 1024;
/** Cells of freed maps that are removed at once. */
const RECLAIM_CELLS = 100_000;

export interface StateReport {
  readonly findings: readonly Finding[];
  /** Why there was nothing to compare, or null. */
  readonly none: string | null;
  /** The seq that the state has reached, and its cells. */
  readonly seq: number;
  readonly cells: number;
}

/** Folds the events of a data directory up to where its state has come, and holds the state against that; its history, too. */
export async function checkState(data: string, progress: (seq: number) => void): Promise<StateReport> {
  const report = await compareState(data, progress);
  return { ...report, findings: [...report.findings, ...(await checkHistory(data))] };
}

async function compareState(data: string, progress: (seq: number) => void): Promise<StateReport> {
  const db = new Sqlite(join(data, "events.sqlite"), { readonly: true, fileMustExist: true });
  const fact = (name: string): string => (db.prepare(FACT).pluck().get(name) as string | undefined) ?? "";
  const folder = join(data, "state");
  const none = existsSync(folder) ? reasonToDiscard(folder, fact("id")) : "there is none";
  if (none !== null) return { findings: [], none, seq: 0, cells: 0 };
  const file = new StateFile(folder);
  const host = { ...readHost(), possibleCpus: Number(fact("possible_cpus")) };
  const cells = new MemoryCells();
  const archived = readArchived(fact(ARCHIVED));
  const lastSeq = db.prepare(LAST_SEQ).pluck();
  try {
    if (archived.through > 0) {
      const folders = archiveFolders(data, archived);
      try {
        await restoreArchived(cells, { archived, log: fact("id"), folders, host, layout: LAYOUT });
      } catch (error) {
        return wrong(0, null, `the state cannot be compared: ${(error as Error).message}`);
      }
    }
    const fold = new Fold(cells, host);
    for (;;) {
      const seq = file.look();
      const last = lastSeq.get() as number;
      if (seq > last) return wrong(seq, null, `the state has events up to ${seq}, the log ends at ${last}`);
      if (seq < fold.seq) return { findings: [], none: `it ends before archived events, at ${seq}`, seq, cells: 0 };
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
  } finally {
    await file.close();
    db.close();
  }
}

function wrong(seq: number, first: number | null, text: string): StateReport {
  return { findings: [{ seq: first, text }], none: null, seq, cells: 0 };
}

class NoReplay extends Error {
  readonly seq: number;

  constructor(seq: number, cause: Error) {
    super(`it cannot be replayed: ${cause.message}`, { cause });
    this.seq = seq;
  }
}

/** What events add up to. */
class Fold {
  readonly cells: MemoryCells;
  readonly state: State;
  readonly #pending: PendingCells;
  seq: number;

  /** From where the cells are on. */
  constructor(cells: MemoryCells, host: Host) {
    this.cells = cells;
    this.seq = cells.seq;
    this.#pending = new PendingCells(cells);
    this.state = new State(this.#pending, host, IGNORE);
  }

  /** Events that may have changed something, of all up to `until`. */
  async through(events: readonly Event[], until: number): Promise<void> {
    for (const { seq, command, outcome } of events)
      try {
        redo(this.state, command, outcome);
      } catch (error) {
        throw new NoReplay(seq, error as Error);
      }
    this.seq = until;
    if (this.#pending.size >= WRITE_CELLS || this.#pending.bytes >= WRITE_BYTES) await this.#write();
  }

  /** The cells are what the events add up to, and nothing else. */
  async settle(): Promise<void> {
    while (this.state.reclaim(RECLAIM_CELLS));
    await this.#write();
  }

  async #write(): Promise<void> {
    this.#pending.write(this.seq, (error) => {
      throw error;
    });
    await this.#pending.writing;
  }
}

/** Greater than every key: none begins with so many. */
const END = "\xff".repeat(8);
const [ELEMENT, USE, GARBAGE] = ["e", "u", "g"];

/**
 * How many cells there are, or which is the first that differs. Elements of freed maps are reclaimed at leisure, so they may
 * still be there: where the state says that they are garbage they do not count.
 */
function compare({ cells, state }: Fold, file: StateFile): number | string {
  let count = 0;
  const expected = cells.range("\x01", END)[Symbol.iterator]();
  let next = expected.next();
  for (const [key, value] of file.cells()) {
    if (isGarbage(key, state, file)) continue;
    if (next.done === true || key < next.value[0]) return `${cellText(key)} is in the state, and no event put it there`;
    if (key > next.value[0]) return `${cellText(next.value[0])} is missing in the state`;
    if (!value.equals(next.value[1]))
      return `${cellText(key)} is ${shown(value)} in the state, the events add up to ${shown(next.value[1])}`;
    count++;
    next = expected.next();
  }
  return next.done === true ? count : `${cellText(next.value[0])} is missing in the state`;
}

function isGarbage(key: CellKey, state: State, file: StateFile): boolean {
  const table = key[0];
  if ((table !== ELEMENT && table !== GARBAGE && table !== USE) || key.length < 5) return false;
  const map = readU32Key(key, 1);
  if (state.map(map) !== undefined || map > state.lastId("map")) return false;
  return table === GARBAGE || file.has(`${GARBAGE}${key.slice(1, 5)}`);
}

const TABLES: Readonly<Record<string, string>> = {
  c: "a counter",
  s: "a session",
  f: "a descriptor",
  m: "a map",
  n: "a map's number of elements",
  r: "a map's holds",
  k: "a map's name",
  p: "a pin",
  d: "a directory",
  e: "an element",
  u: "an element's use",
  h: "the interfaces",
};

const SHOWN_BYTES = 32;

/** "an element of map 1 (cell 65000000010100…)". */
function cellText(key: CellKey): string {
  const table = TABLES[key[0] as string] ?? "an object";
  const of = (key[0] === ELEMENT || key[0] === USE) && key.length >= 5 ? ` of map ${readU32Key(key, 1)}` : "";
  return `${table}${of} (cell ${shown(Buffer.from(key, "latin1"))})`;
}

function shown(bytes: Buffer): string {
  const hex = bytes.toString("hex", 0, SHOWN_BYTES);
  return bytes.length > SHOWN_BYTES ? `${hex}\u2026` : hex;
}
