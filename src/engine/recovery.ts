/**
 * Recovers the state: applies all events that the store does not have (`redo`; it decides nothing). Only events that
 * may have changed the state are read, many in one row (`sqlite/changes.ts`).
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
  /** Over the cells of the store, and followed by nobody: kernel maps follow when it has come to the log's end. */
  readonly state: State;
  readonly writes: Pick<StateWrites, "replayed" | "all">;
  /** Told of each event before it is done again; null: nobody asks for it. */
  readonly windows: Pick<Windows, "before"> | null;
}

/** Events between two reports of the progress. */
const PROGRESS_EVENTS = 10_000;

/** A state cannot have events that its log lacks. */
export function checkBehind({ lastSeq }: Pick<EventLog, "lastSeq">, { seq }: Pick<StateStore, "seq">): void {
  if (seq > lastSeq) throw new Error(`recovering the state: it has events up to ${seq}, the log ends at ${lastSeq}`);
}

/** Brings the state up to the log: does all events again that the store does not have, and writes them. */
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
