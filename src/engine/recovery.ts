/**
 * Recovers the state at a start: redoes all events that the store does not have, with `redo`, which decides nothing
 * (`syscall/execute.ts`). Only events that may have changed the state are read, many in one row (`sqlite/changes.ts`).
 */

import type { Event } from "../log/event.ts";
import { redo } from "../syscall/execute.ts";
import type { State } from "../syscall/state.ts";
import type { EventLog, StateStore } from "./ports.ts";
import type { StateWrites } from "./state_writes.ts";
import type { Windows } from "./windows.ts";

export interface RecoveryParts {
  readonly log: Pick<EventLog, "lastSeq" | "changes">;
  readonly store: Pick<StateStore, "seq">;
  /** A state over the store's cells that no mirror follows: kernel maps are taken up after the recovery. */
  readonly state: State;
  readonly writes: Pick<StateWrites, "replayed" | "all">;
  /** Called with each event before it is redone; null: no kernel map follows. */
  readonly windows: Pick<Windows, "before"> | null;
}

/** Events between two reports of the progress. */
const PROGRESS_EVENTS = 10_000;

/** Throws if the state has events that the log lacks. */
export function checkBehind({ lastSeq }: Pick<EventLog, "lastSeq">, { seq }: Pick<StateStore, "seq">): void {
  if (seq > lastSeq) throw new Error(`recovering the state: it has events up to ${seq}, the log ends at ${lastSeq}`);
}

/** Redoes all events that the store does not have, and writes the changed cells. */
export async function replayLog(
  { log, store, state, writes, windows }: RecoveryParts,
  progress: (done: number, total: number) => void,
): Promise<void> {
  const before = store.seq;
  let seq = before;
  let told = before;
  for await (const events of log.changes(before)) {
    for (const event of events) {
      windows?.before(event);
      redoEvent(state, event);
    }
    seq = events.at(-1)?.seq ?? seq;
    await writes.replayed(seq);
    if (seq - told < PROGRESS_EVENTS) continue;
    told = seq;
    progress(seq - before, log.lastSeq - before);
  }
  await writes.all(log.lastSeq);
}

function redoEvent(state: State, { seq, command, outcome }: Event): void {
  try {
    redo(state, command, outcome);
  } catch (error) {
    throw new Error(`replaying event ${seq}: ${(error as Error).message}`, { cause: error });
  }
}
