import Sqlite from "better-sqlite3";
import { IGNORE } from "../../src/engine/followers.ts";
import { MemoryCells } from "../../src/engine/memory.ts";
import { type EventRow, rowEvent } from "../../src/log/event.ts";
import type { Host } from "../../src/maps/map.ts";
import { redo } from "../../src/syscall/execute.ts";
import { State } from "../../src/syscall/state.ts";

type Cells = [key: string, value: string][];

/** Every cell, in order. */
export function dump(cells: Pick<MemoryCells, "range">): Cells {
  return [...cells.range("\x01", "\xff")].map(([key, value]) => [key, value.toString("hex")]);
}

/** What a file's events add up to, up to a seq. */
export function foldLog(file: string, throughSeq: number, host: Host): Cells {
  const db = new Sqlite(file, { readonly: true });
  const rows = db.prepare("SELECT * FROM events WHERE seq <= ? ORDER BY seq").iterate(throughSeq);
  const cells = foldRows(rows as Iterable<EventRow>, host);
  db.close();
  return cells;
}

export function foldRows(rows: Iterable<EventRow>, host: Host): Cells {
  const cells = new MemoryCells();
  const state = new State(cells, host, IGNORE);
  for (const row of rows) {
    const { command, outcome } = rowEvent(row);
    redo(state, command, outcome);
  }
  while (state.garbage.reclaim(1000));
  return dump(cells);
}
