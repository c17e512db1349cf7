/** Fills a store from archived events (`fold`) or from a snapshot (`load`). */

import { IGNORE } from "../engine/followers.ts";
import { PendingCells } from "../engine/pending.ts";
import type { StateStore } from "../engine/ports.ts";
import { type EventRow, rowEvent } from "../log/event.ts";
import type { CellKey } from "../maps/cells.ts";
import type { Host } from "../maps/map.ts";
import { redo } from "../syscall/execute.ts";
import { State } from "../syscall/state.ts";
import type { Snapshot } from "./snapshot.ts";

/** A transaction of the store is written once it has this many cells, or this many bytes. */
const WRITE_CELLS = 65_536;
const WRITE_BYTES = 64 * 1024 * 1024;
/** Cells of freed maps that one call reclaims. */
const RECLAIM_CELLS = 8192;

/**
 * Applies events to a store. Returns the time of the last event in microseconds, 0 if there was none. Cells of freed
 * maps are reclaimed before it returns, so that the resulting cells depend on the events alone.
 */
export async function fold(store: StateStore, host: Host, events: Iterable<EventRow>): Promise<number> {
  const cells = new PendingCells(store);
  const state = new State(cells, host, IGNORE);
  let seq = store.seq;
  let timeUs = 0;
  for (const row of events) {
    const { command, outcome } = rowEvent(row);
    redo(state, command, outcome);
    cells.settle();
    seq = row.seq;
    timeUs = row.time_us;
    if (cells.size >= WRITE_CELLS || cells.bytes >= WRITE_BYTES) await write(cells, seq);
  }
  while (state.garbage.reclaim(RECLAIM_CELLS)) {
    cells.settle();
    await write(cells, seq);
  }
  cells.settle();
  await write(cells, seq);
  return timeUs;
}

async function write(cells: PendingCells, seq: number): Promise<void> {
  const failure: { error?: unknown } = {};
  await cells.write(seq, (error) => {
    failure.error = error;
  });
  if (failure.error !== undefined) throw failure.error;
}

/**
 * Puts a snapshot's cells into an empty store. The store gets the snapshot's seq with the last cells only, so that a
 * store that was filled in part still has seq 0.
 */
export async function load(store: StateStore, { head, cells }: Snapshot): Promise<void> {
  let waiting: [CellKey, Buffer][] = [];
  let bytes = 0;
  for await (const batch of cells) {
    for (const [key, value] of batch) {
      waiting.push([key, value]);
      bytes += key.length + value.length;
    }
    if (waiting.length < WRITE_CELLS && bytes < WRITE_BYTES) continue;
    await store.write(waiting, 0, bytes);
    waiting = [];
    bytes = 0;
  }
  await store.write(waiting, head.seq, bytes);
}
